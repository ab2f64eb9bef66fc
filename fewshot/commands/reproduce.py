"""`fewshot reproduce`: runs the recipes of a data set, stores their results, and makes the tables."""

import sys
from pathlib import Path

from fewshot.commands.recipes import find_recipes
from fewshot.config.reproduction import DEFAULT_REPORT, ReproduceConfig
from fewshot.evaluation import report
from fewshot.reproduction.heads import fill_expected
from fewshot.reproduction.recipes import find_runs, select_measuring
from fewshot.reproduction.runner import format_section, refresh_summaries, run_all
from fewshot.reproduction.tables.summary import COLUMNS
from fewshot.runtime.plugins import load_plugins


def run(config: ReproduceConfig) -> None:
    """Run the recipes of a data set, keep their results, and write the tables.

    Args:
        config: the options of the subcommand.
    """
    dataset, results, folder = config.dataset, Path(config.results) / config.dataset, find_recipes(config.recipes)
    recipes, published = folder / dataset, folder.parent / "published" / f"{dataset}.yaml"
    runs = select_measuring(find_runs(recipes, Path(config.out), config.seeds, config.methods), config.cells)
    load_plugins(plugin for one in runs for plugin in one.config.plugins)
    failed = run_all(runs, folder.parent, results, config.budget)
    text = format_section(recipes, results, published)
    print(f"\n{text}")
    if config.report is not None:
        file = config.report.replace("DATASET", dataset) if config.report == DEFAULT_REPORT else config.report
        report.write_section(file, f"reproduce {dataset}", f"{dataset}: all methods", text)
    if config.report == DEFAULT_REPORT:  # another report may be of other results than those in the heads of recipes
        fill_expected(recipes, results)
    if config.report == DEFAULT_REPORT and dataset in COLUMNS:
        refresh_summaries(folder.parent, Path(config.results), [Path("README.md"), Path("RESULTS.md")])
    if failed:
        sys.exit(f"\nfailed: {', '.join(run.title for run in failed)}")
