"""Finds the runs that the recipes of a data set describe, and orders and selects them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot import cli
from fewshot.config import PRETRAIN
from fewshot.config.recipes import Entry, read_recipe
from fewshot.config.saved import CLASSES
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name
from fewshot.reproduction.runs import Run
from fewshot.reproduction.tables.accuracies import REFERENCE, shorten
from fewshot.training.run_folder import RunFolder

SAME = ("dataset", "test_dataset", "test_disjoint_groups", "test_n_query", "test_seed", "test_episodes")


def find_runs(recipes: Path, out: Path, seeds: Sequence[int] = (0,), names: Sequence[str] = ()) -> list[Run]:
    """Find the runs of the recipes in the folder `recipes`, in the order of running: seed by seed, stage 1 first.

    `names`: of runs, or of rows of the tables (`maml` stands for maml.yaml and maml_20way.yaml); default: all. The
    runs that they start from are included, also of a neighbouring folder (`pretrained_run: runs/FOLDER/NAME`). Raises
    `ConfigError` for an invalid recipe, and for recipes that measure the same cell on different episodes.
    """
    known = read_entries(recipes)
    rows = {planned.entry.row for planned in known.values()}
    for name in names:
        if name not in known.keys() | rows:
            raise unknown_name(f"recipe of {recipes}", name, known)
    wanted = [name for name, planned in known.items() if not names or {name, planned.entry.row} & set(names)]
    runs = [run for seed in seeds for run in _make_runs(recipes, known, wanted, out, seed)]
    _refuse_different_episodes(select_own(runs, recipes))
    return runs


def select_own(runs: Sequence[Run], recipes: Path) -> list[Run]:
    """The runs of the recipes in this folder, without those of another one that they start from."""
    return [run for run in runs if run.group == recipes.name]


@dataclass(frozen=True)
class Planned:
    """One run that the recipe in file `path` describes: its training, or one of its rows."""

    path: Path
    entry: Entry
    is_row: bool


def read_entries(recipes: Path) -> dict[str, Planned]:
    """Read the runs that the recipes in a folder describe, by name; raises `ConfigError` if two have one name."""
    known: dict[str, Planned] = {}
    paths = sorted(recipes.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"there is no recipe (*.yaml) in {recipes}")
    for path in paths:
        recipe = read_recipe(path)
        for entry in recipe.entries:
            planned = known.setdefault(entry.name, Planned(path, entry, is_row=entry is not recipe.training))
            if planned.entry is not entry:
                raise ConfigError(f"{planned.path} and {path} both have a run called {entry.name}: rename one")
    return known


def select_measuring(runs: Sequence[Run], cells: Sequence[str]) -> list[Run]:
    """Select the runs that measure one of `cells` (`5w1s`), and the runs that they start from.

    Raises `ConfigError` for a cell that no run measures.
    """
    measured = {shorten(cell) for run in runs for cell in run.cells}
    for cell in cells:
        if cell not in measured:
            raise ConfigError(f"no recipe measures {cell}; there are {', '.join(sorted(measured))}")
    wanted = [run for run in runs if not cells or set(map(shorten, run.cells)) & set(cells)]
    needed = {run.stage_one.folder.path for run in wanted if run.stage_one}
    return [run for run in runs if run in wanted or run.folder.path in needed]


def _make_runs(recipes: Path, known: dict[str, Planned], wanted: Sequence[str], out: Path, seed: int) -> list[Run]:
    runs: dict[tuple[Path, str], Run] = {}
    known_in = {recipes: known}

    def add(folder: Path, name: str, *needed_by: str) -> Run:
        if name in needed_by:
            raise ConfigError(f"recipes start from each other in a circle: {' -> '.join((*needed_by, name))}")
        if folder not in known_in:
            known_in[folder] = read_entries(folder)
        if name not in known_in[folder]:
            raise unknown_name(f"recipe of {folder}", name, known_in[folder])
        if (folder, name) not in runs:
            run = _parse(known_in[folder][name], out / folder.name / f"{name}-seed{seed}", seed)
            pretrained = getattr(run.config, "pretrained_run", None)
            if pretrained:
                first = add(_find_folder(folder, pretrained), Path(pretrained).name, *needed_by, name)
                run = _start_from(run, first)
            runs[folder, name] = run
        return runs[folder, name]

    for name in sorted(wanted, key=lambda name: (known[name].entry.kind != PRETRAIN, name)):
        add(recipes, name)
    return list(runs.values())


def _find_folder(recipes: Path, pretrained_run: str) -> Path:
    """The folder of the recipe of `runs/FOLDER/NAME`: FOLDER beside `recipes` where there is one, else `recipes`."""
    beside = recipes.parent / Path(pretrained_run).parent.name
    return beside if Path(pretrained_run).parent.name and beside.is_dir() else recipes


def _parse(planned: Planned, folder: Path, seed: int) -> Run:
    entry, row = planned.entry, ["--row", planned.entry.name] if planned.is_row else []
    arguments = ["--config", str(planned.path), *row, "--run_dir", str(folder), "--seed", str(seed)]
    if entry.row != REFERENCE:
        arguments += ["--test_floor", "false"]  # tables show the untrained rows of the reference only
    try:
        config = cli.parse(CLASSES[entry.kind], "", arguments)
        return Run(entry.name, entry.row, RunFolder(folder), tuple(arguments), config, test_set=entry.test_set)
    except SystemExit:  # the parser has printed the reason on stderr
        raise ConfigError(f"{planned.path} is no valid recipe") from None


def _start_from(run: Run, stage_one: Run) -> Run:
    path = str(stage_one.folder.path)
    config = replace(run.config, pretrained_run=path)
    return replace(run, config=config, arguments=(*run.arguments, "--pretrained_run", path), stage_one=stage_one)


def _refuse_different_episodes(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` if two runs measure the same cell on different episodes."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        for cell in map(shorten, run.cells):
            other = first.setdefault((run.test_set, cell), run)
            asked = SAME[1:-1] if run.test_set else SAME  # tables of several test sets say the episodes of each row
            for option in asked:
                values = [getattr(r.config, option) for r in (other, run)]
                if values[0] != values[1]:
                    raise ConfigError(
                        f"{other.name} and {run.name} measure {cell} on different episodes ({option}: {values[0]} and "
                        f"{values[1]}), so no table can hold both: name recipes that agree with --methods"
                    )
