"""`fewshot figures`: draws all methods of a data set against shots, ways and minutes of training."""

from pathlib import Path

from fewshot.commands.recipes import find_recipes
from fewshot.config.reproduction import FiguresConfig
from fewshot.reproduction.figures import choose_runs, find_seeds, make_figures, measure_curves
from fewshot.reproduction.recipes import find_runs, select_own
from fewshot.runtime.files import check_writable
from fewshot.runtime.plugins import load_plugins


def run(config: FiguresConfig) -> None:
    """Draw accuracy against shots, ways and minutes, measuring what is not measured yet.

    Args:
        config: the options of the subcommand.
    """
    dataset, results, out = config.dataset, Path(config.results) / config.dataset, Path(config.out)
    recipes = find_recipes(config.recipes) / dataset
    check_writable(results / "curves.json")
    runs = select_own(find_runs(recipes, out, find_seeds(out / dataset)), recipes)
    load_plugins(plugin for one in runs for plugin in one.config.plugins)
    measured = choose_runs(runs, config.methods)
    measure_curves(measured, results, config.episodes, config.slow_episodes)
    usual = choose_runs(runs)
    shown = [run for run in runs if run in usual or run in measured]
    print("figures: " + (" ".join(map(str, make_figures(results, runs, shown))) or "none, there are no results"))
