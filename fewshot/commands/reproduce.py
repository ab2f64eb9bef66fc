"""`fewshot reproduce`: the recipes of a data set are run, their results kept, and the tables made."""

import sys
from pathlib import Path

from fewshot.commands.recipes_folder import scripts_folder
from fewshot.config.reproduction import ReproduceConfig
from fewshot.evaluation import report
from fewshot.reproduction.recipes import find_runs, measuring
from fewshot.reproduction.runner import run_all, section


def run(config: ReproduceConfig) -> None:
    """Run, compare, print, write."""
    dataset, results, scripts = config.dataset, Path(config.results) / config.dataset, scripts_folder(config.recipes)
    recipes, published = scripts / "recipes" / dataset, scripts / "published" / f"{dataset}.yaml"
    runs = measuring(find_runs(recipes, Path(config.out), config.seeds, config.methods), config.cells)
    failed = run_all(runs, scripts, results, config.budget)
    text = section(recipes, results, published)
    print(f"\n{text}")
    if config.report is not None:
        report.write_section(config.report, f"reproduce {dataset}", f"{dataset}: all methods", text)
    if failed:
        sys.exit(f"\nfailed: {', '.join(run.title for run in failed)}")
