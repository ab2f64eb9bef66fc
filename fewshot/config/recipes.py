"""Recipes: YAML files of options for a training, with `rows` for heads that need no training of their own.

kind: pretrain               # the training: episodic (default) or pretrain; frozen: only rows; base: to be extended
extends: base.yaml           # options of that file are the defaults of this one; null removes an option
row: classifier-baseline     # row of the tables that shows the training (default: the name of the file)
run_dir: runs/toy/pretrain   # and any other option of the script that runs the recipe
test_cells:                  # the training measures the first cell; each row measures all, with one run per cell
- {n_way: 5, n_shot: [1, 5]}  # the first cell may list several ways or shots
- {n_way: 5, n_shot: 10, n_query: 6, n_episodes: 200}  # a later cell has another n_way or n_shot than the first
rows:                        # heads on the trained weights: a name, and the options that differ
  simpleshot: {}             # the name is also the method, unless the row has an option `method`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewshot.config.experiments import EPISODIC, PRETRAIN, ExperimentConfig, PretrainExperimentConfig, SetupConfig
from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name

FROZEN, BASE = "frozen", "base"  # kinds of files that train nothing
KINDS = (EPISODIC, PRETRAIN, FROZEN, BASE)
SCRIPTS = {EPISODIC: "train_episodic.py", PRETRAIN: "pretrain.py"}  # what runs a configuration of each kind
OWN = ("kind", "extends", "row", "rows")  # keys about the file itself: neither options nor inherited
OF_CELL = {"n_way": "test_n_way", "n_shot": "test_n_shot", "n_query": "test_n_query", "n_episodes": "test_episodes"}
VALIDATION = {"val_n_way", "val_n_shot", "val_n_query", "val_episodes"}
NOT_OF_A_ROW = ("kind", "extends", "row", "rows", "seed", "run_dir")
ROW_NAME = re.compile(r"[A-Za-z][\w.+-]*")
OF_ROWS = {field.name for field in fields(SetupConfig)} | VALIDATION | {"precision", "allow_seen_classes", "test_cells"}
"""Options that rows inherit from their file; the other options concern its training."""

EPISODES, BATCHES = ({field.name for field in fields(c)} for c in (ExperimentConfig, PretrainExperimentConfig))
FOREIGN = {EPISODIC: BATCHES - EPISODES, PRETRAIN: EPISODES - BATCHES}
"""For each kind the options that only the other kind has: ignored in a base file that both kinds extend."""

Options = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One run of a recipe: its name, the row of the tables that shows its numbers, its kind and its options."""

    name: str
    row: str
    kind: str
    options: Options


@dataclass(frozen=True)
class Recipe:
    """The runs of a recipe: its training (None if the file trains nothing) and its rows."""

    path: Path
    kind: str
    training: Entry | None
    rows: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        """All runs: the training, then the rows."""
        return [*([self.training] if self.training else []), *self.rows]

    def entry(self, row: str | None, kind: str) -> Entry:
        """The row of that name, or the training if `row` is None; raises `ConfigError` if it is not of this kind."""
        rows = {entry.name: entry for entry in self.rows}
        if row is not None and row not in rows:
            raise unknown_name(f"row of {self.path}", row, rows)
        entry = rows[row] if row is not None else self.training
        if entry is None:
            names = f"; name one of its rows with --row: {', '.join(rows)}" if rows else ""
            raise ConfigError(f"{self.path} is of kind {self.kind}, which trains nothing{names}")
        if entry.kind != kind:
            what = f"the row {row} of {self.path}" if row is not None else f"{self.path}"
            raise ConfigError(f"{what} is of kind {entry.kind}: run it with scripts/{SCRIPTS[entry.kind]}")
        return entry


def read_recipe(path: Path, default_kind: str = EPISODIC) -> Recipe:
    """Read a recipe.

    Args:
        path: the YAML file.
        default_kind: the kind of a file without the key `kind`.

    Raises:
        ConfigError: the file is no readable recipe, or what it describes cannot be run.
        UnknownNameError: the file names a kind, or a property of a test cell, that does not exist.
    """
    said = read_options(path)
    kind, row, rows = said.get("kind", default_kind), said.get("row", path.stem), said.get("rows", {})
    if kind not in KINDS:
        raise unknown_name(f"kind of {path}", str(kind), KINDS)
    if not isinstance(rows, dict) or not all(isinstance(options, dict) for options in rows.values()):
        raise ConfigError(f"{path}: rows must hold names with a mapping of options each, got {rows!r}")
    for name, own in rows.items():
        _check_row(name, own, path)
    options = _extend(path, FOREIGN.get(kind, set()))
    training = None if kind in (FROZEN, BASE) else _training(path.stem, row, kind, options, path)
    shared = {key: value for key, value in options.items() if key in OF_ROWS} | {"max_steps": 0}
    if rows and training:
        if "run_dir" not in options:
            raise ConfigError(f"{path}: the rows start from its trained weights: name their folder with run_dir")
        shared["pretrained_run"] = options["run_dir"]
    entries = [entry for name, own in rows.items() for entry in _make_row(name, _merge(shared, own), path)]
    return Recipe(path, kind, training, entries)


def _check_row(name: object, own: Options, path: Path) -> None:
    """Raise `ConfigError` for a name that cannot be a file name, and for options that a row cannot set."""
    if not isinstance(name, str) or not ROW_NAME.fullmatch(name):
        raise ConfigError(f"{path}: a row's name is a letter, then letters, digits and any of . _ + -, got {name!r}")
    refused = [option for option in NOT_OF_A_ROW if option in own]
    if refused:
        raise ConfigError(f"{path}: the row {name} cannot set {', '.join(refused)}; set it in the file, or by --seed")


def _training(name: str, row: str, kind: str, options: Options, path: Path) -> Entry:
    cells = _read_test_cells(options, path)
    return Entry(name, row, kind, _drop_cells(options) | _describe_cell(cells[0], path))


def _make_row(name: str, options: Options, path: Path) -> list[Entry]:
    """Make a run for each test cell: the first has the name of the row, others add what differs: `baseline_10shot`."""
    first, *others = _read_test_cells(options, path)
    options = {"method": name, **_drop_cells(options)}
    entries = [Entry(name, name, EPISODIC, options | _describe_cell(first, path))]
    for cell in others:
        differing = [key for key in ("n_way", "n_shot") if cell.get(key) != first.get(key)]
        if len(differing) != 1 or not isinstance(cell.get(differing[0]), int):
            raise ConfigError(f"{path}: a later test cell must differ from {first} in n_way or n_shot, got {cell}")
        added = f"{cell[differing[0]]}{differing[0].removeprefix('n_')}"
        entries.append(Entry(f"{name}_{added}", name, EPISODIC, options | _describe_cell(cell, path)))
    return entries


def _read_test_cells(options: Options, path: Path) -> list[Options]:
    cells = options.get("test_cells", [{}])
    if not isinstance(cells, list) or not cells or not all(isinstance(cell, dict) for cell in cells):
        raise ConfigError(f"{path}: test_cells must be a list with a mapping for each run, got {cells!r}")
    twice = [option for option in OF_CELL.values() if option in options]
    if twice and "test_cells" in options:
        raise ConfigError(f"{path}: the test cells are given by test_cells and by {', '.join(twice)}; use one of them")
    return cells


def _drop_cells(options: Options) -> Options:
    return {key: value for key, value in options.items() if key != "test_cells"}


def _describe_cell(cell: Mapping[str, Any], path: Path) -> Options:
    """Convert a test cell to options of the script."""
    for key in cell:
        if key not in OF_CELL:
            raise unknown_name(f"property of a test cell in {path}", str(key), OF_CELL)
    listed = {key: [cell[key]] for key in ("n_way", "n_shot") if isinstance(cell.get(key), int)}
    return {OF_CELL[key]: value for key, value in {**cell, **listed}.items()}


def _extend(path: Path, foreign: set[str], by: tuple[Path, ...] = ()) -> Options:
    """Merge the options of a file into those of the file that it extends, of which the `foreign` ones are ignored."""
    if path.resolve() in by:
        raise ConfigError(f"extends goes in a circle: {' -> '.join(str(p) for p in (*by, path.resolve()))}")
    said = read_options(path)
    options = {key: value for key, value in said.items() if key not in OWN}
    if "extends" not in said:
        return options
    if not isinstance(said["extends"], str):
        raise ConfigError(f"{path}: extends names one file, relative to this one, got {said['extends']!r}")
    inherited = _extend(path.parent / said["extends"], foreign, (*by, path.resolve()))
    return _merge({key: value for key, value in inherited.items() if key not in foreign}, options)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> Options:
    """Merge `own` into `base`, nested mappings too; the value null removes a key of `base`."""
    merged = dict(base)
    for key, value in own.items():
        if value is None and key in base:
            del merged[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value)
        else:
            merged[key] = value
    return merged
