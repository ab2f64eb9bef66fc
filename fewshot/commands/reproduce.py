"""`fewshot reproduce`: runs the recipes of a data set, stores their results, and makes the tables."""

import sys
from pathlib import Path

from fewshot.commands.recipes import find_recipes
from fewshot.config.reproduction import PUBLISHED_REPORT, ReproduceConfig
from fewshot.errors import ConfigError
from fewshot.evaluation import report
from fewshot.reproduction.heads import fill_expected
from fewshot.reproduction.launchers import make_launcher
from fewshot.reproduction.recipes import find_runs, select_measuring
from fewshot.reproduction.runner import Asked, format_section, refresh_summaries, run_all
from fewshot.reproduction.tables.summary import COLUMNS
from fewshot.runtime.files import check_writable
from fewshot.runtime.plugins import load_plugins
from fewshot.training.small_copy import copy_small


def run(config: ReproduceConfig) -> None:
    """Run the recipes of a data set, keep their results, and print the tables of what was asked.

    Args:
        config: the options of the subcommand.
    """
    if config.publish and config.report is not None:
        raise ConfigError("--publish writes the page of the data set, and --report another file: choose one")
    if config.train_only and (config.publish or config.report is not None):
        raise ConfigError("with train_only nothing is measured, so there is nothing for --publish or --report")
    dataset, folder = config.dataset, find_recipes(config.recipes)
    kept = Path(config.results or ("results" if config.publish else f"{config.out}/results"))
    recipes = folder / dataset
    runs = select_measuring(find_runs(recipes, Path(config.out), config.seeds, config.methods), config.cells)
    if (page := _find_page(config)) is not None and not config.train_only:
        report.check_section(page, f"reproduce {dataset}")
    if config.budget != 0:
        check_writable(kept / dataset / "result.json", Path(config.out) / dataset / "run" / "config.json")
    load_plugins(plugin for one in runs for plugin in one.config.plugins)
    launcher = make_launcher(config, f"{config.out}/slurm")
    failed = run_all(runs, folder.parent, kept / dataset, config.budget, launcher, config.train_only)
    if config.small_copies:
        for one in runs:
            if one.folder.config.exists():
                copy_small(one.folder.path, Path(config.small_copies, one.group, one.folder.path.name))
    if not config.train_only:
        _make_tables(config, folder, kept)
    if failed:
        sys.exit(f"\nfailed: {', '.join(run.title for run in failed)}")


def _find_page(config: ReproduceConfig) -> str | None:
    """The file that gets the tables, if any."""
    return PUBLISHED_REPORT.replace("DATASET", config.dataset) if config.publish else config.report


def _make_tables(config: ReproduceConfig, folder: Path, kept: Path) -> None:
    dataset = config.dataset
    recipes, published = folder / dataset, folder.parent / "published" / f"{dataset}.yaml"
    asked = None if config.publish else Asked(tuple(config.methods), tuple(config.cells), tuple(config.seeds))
    text = format_section(recipes, kept / dataset, published, asked)
    print(f"\n{text}")
    file = _find_page(config)
    if file is not None:
        report.write_section(file, f"reproduce {dataset}", f"{dataset}: all methods", text)
    if config.publish:
        fill_expected(recipes, kept / dataset)
    if config.publish and dataset in COLUMNS:
        refresh_summaries(folder.parent, kept, [Path("README.md"), Path("RESULTS.md")])
