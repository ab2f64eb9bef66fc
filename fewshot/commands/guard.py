"""`fewshot guard`: checks that every recipe of glyphs still learns."""

import tempfile
from pathlib import Path

from fewshot.commands.recipes import find_recipes
from fewshot.config.reproduction import CheckLearningConfig
from fewshot.reproduction import guard


def run(config: CheckLearningConfig) -> None:
    """Train every recipe for seconds, and compare it with its bounds; exit status 1 where one falls below.

    Args:
        config: the options of the subcommand.
    """
    recipes = find_recipes()
    shortened, bounds = guard.read_config(recipes.parent / "guard.yaml"), recipes.parent / "guard_floors.json"
    seeds = config.seeds if config.calibrate else [config.seed]
    with tempfile.TemporaryDirectory(prefix="fewshot-guard-") as folder:
        runs = guard.make_short_runs(recipes / "glyphs", Path(folder), shortened, seeds, config.recipes)
        if config.calibrate:
            guard.calibrate(runs, bounds, shortened)
        elif guard.compare(runs, bounds, shortened):
            raise SystemExit(1)
