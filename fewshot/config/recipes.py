"""Recipes: YAML files of options, each with the rows that need no training of their own.

kind: pretrain               # of the training: episodic (default) or pretrain; frozen: rows only; base: to extend
extends: base.yaml           # that file's options hold where this one gives no others; null takes one away
row: classifier-baseline     # row of the tables (default: the name of the file)
run_dir: runs/toy/pretrain   # and any other option of the script that runs it
test_cells:                  # the training measures the first of them, each row all, with a run for each
- {n_way: 5, n_shot: [1, 5]}  # several ways or shots of one run stand in lists, in the first cell
- {n_way: 5, n_shot: 10, n_query: 6, n_episodes: 200}  # one other n_way or n_shot than the first
rows:                        # heads on the trained weights: a name, and the options that differ
  simpleshot: {}             # a row is of the method that is called like it, or of `method`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewshot.config.experiments import EPISODIC, PRETRAIN, ExperimentConfig, PretrainExperimentConfig, SetupConfig
from fewshot.config.training import TrainConfig
from fewshot.config.yaml_file import read_yaml
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name

FROZEN, BASE = "frozen", "base"  # kinds of a file that trains nothing
KINDS = (EPISODIC, PRETRAIN, FROZEN, BASE)
SCRIPTS = {EPISODIC: "train_episodic.py", PRETRAIN: "pretrain.py"}  # what runs a configuration of each kind
OWN = ("kind", "extends", "row", "rows")  # what a file says of itself: no options, and not for files that extend it
OF_CELL = {"n_way": "test_n_way", "n_shot": "test_n_shot", "n_query": "test_n_query", "n_episodes": "test_episodes"}
VALIDATION = {"val_n_way", "val_n_shot", "val_n_query", "val_episodes"}
NOT_OF_A_ROW = ("kind", "extends", "row", "rows", "seed", "run_dir")
ROW_NAME = re.compile(r"[A-Za-z][\w.+-]*")
OF_ROWS = {field.name for field in fields(SetupConfig)} | VALIDATION | {"precision", "allow_seen_classes", "test_cells"}
"""Options that rows have from the file they stand in: the others say how it trains."""

EPISODES, BATCHES = ({field.name for field in fields(c)} for c in (ExperimentConfig, PretrainExperimentConfig))
OF_TRAINING = {field.name for field in fields(TrainConfig)} - OF_ROWS
"""Options that a row must not give: it trains nothing."""
FOREIGN = {EPISODIC: BATCHES - EPISODES, PRETRAIN: EPISODES - BATCHES}
"""Options that only the other kind has: where both kinds extend one file, they do not concern it."""

Options = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A run that a recipe asks for: `name` is its own, `row` that of the tables that its numbers stand in."""

    name: str
    row: str
    kind: str
    options: Options


@dataclass(frozen=True)
class Recipe:
    """What a file asks for: a training, unless it trains nothing, and rows."""

    path: Path
    kind: str
    training: Entry | None
    rows: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        """Everything that it runs."""
        return [*([self.training] if self.training else []), *self.rows]

    def entry(self, row: str | None, kind: str) -> Entry:
        """The training, or the row of that name; `ConfigError` where it is not of this kind, or does not exist."""
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
    """The recipe in a file.

    Args:
        path: the YAML file.
        default_kind: its kind where it does not say it.

    Raises:
        ConfigError: it is no such file, or what it says cannot be run as it stands.
        UnknownNameError: it names a kind, or a property of a test cell, that does not exist.
    """
    said = read_yaml(path)
    kind, row, rows = said.get("kind", default_kind), said.get("row", path.stem), said.get("rows", {})
    if kind not in KINDS:
        raise unknown_name(f"kind of {path}", str(kind), KINDS)
    if not isinstance(row, str):
        raise ConfigError(f"{path}: row is the name of a row of the tables, got {row!r}")
    if not isinstance(rows, dict) or not all(isinstance(options, dict) for options in rows.values()):
        raise ConfigError(f"{path}: rows must hold names with a mapping of options each, got {rows!r}")
    for name, own in rows.items():
        _check_row(name, own, path)
    options = _extend(path, FOREIGN.get(kind, set()))
    training = None if kind in (FROZEN, BASE) else _training(path.stem, row, kind, options, path)
    shared = {key: value for key, value in options.items() if key in OF_ROWS} | {"max_steps": 0}
    if rows and training:
        if "run_dir" not in options:
            raise ConfigError(f"{path}: its rows start from its training, so it must say where that lies: run_dir")
        shared["pretrained_run"] = options["run_dir"]
    entries = [entry for name, own in rows.items() for entry in _make_row(name, _merge(shared, own), path)]
    return Recipe(path, kind, training, entries)


def _check_row(name: object, own: Options, path: Path) -> None:
    """Raise `ConfigError` for a name that no file can have, and for options that are not a row's to decide."""
    if not isinstance(name, str) or not ROW_NAME.fullmatch(name):
        raise ConfigError(f"{path}: a row's name is a letter, then letters, digits and any of . _ + -, got {name!r}")
    refused = [option for option in NOT_OF_A_ROW if option in own]
    if refused:
        raise ConfigError(f"{path}: the row {name} must not say {', '.join(refused)}: that is the file's, or --seed's")
    refused = sorted(own.keys() & OF_TRAINING)
    if refused:
        raise ConfigError(f"{path}: the row {name} must not say {', '.join(refused)}: a row trains nothing")


def _training(name: str, row: str, kind: str, options: Options, path: Path) -> Entry:
    cells = _read_test_cells(options, path)
    return Entry(name, row, kind, _drop_cells(options) | _describe_cell(cells[0], path))


def _make_row(name: str, options: Options, path: Path) -> list[Entry]:
    """The runs of a row: the first test cell's bears its name, the others add what differs, `baseline_10shot`."""
    first, *others = _read_test_cells(options, path)
    options = {"method": name, **_drop_cells(options)}
    entries = [Entry(name, name, EPISODIC, options | _describe_cell(first, path))]
    for cell in others:
        differing = [key for key in ("n_way", "n_shot") if cell.get(key) != first.get(key)]
        if len(differing) != 1 or not isinstance(cell.get(differing[0]), int):
            raise ConfigError(f"{path}: a later test cell has one other n_way or n_shot than {first}, got {cell}")
        added = f"{cell[differing[0]]}{differing[0].removeprefix('n_')}"
        entries.append(Entry(f"{name}_{added}", name, EPISODIC, options | _describe_cell(cell, path)))
    return entries


def _read_test_cells(options: Options, path: Path) -> list[Options]:
    cells = options.get("test_cells", [{}])
    if not isinstance(cells, list) or not cells or not all(isinstance(cell, dict) for cell in cells):
        raise ConfigError(f"{path}: test_cells must be a list with a mapping for each run, got {cells!r}")
    twice = [option for option in OF_CELL.values() if option in options]
    if twice and "test_cells" in options:
        raise ConfigError(f"{path}: the test cells are given by test_cells and by {', '.join(twice)}: take one of them")
    return cells


def _drop_cells(options: Options) -> Options:
    return {key: value for key, value in options.items() if key != "test_cells"}


def _describe_cell(cell: Mapping[str, Any], path: Path) -> Options:
    """A test cell as options of the script."""
    for key in cell:
        if key not in OF_CELL:
            raise unknown_name(f"property of a test cell in {path}", str(key), OF_CELL)
    listed = {key: [cell[key]] for key in ("n_way", "n_shot") if isinstance(cell.get(key), int)}
    return {OF_CELL[key]: value for key, value in {**cell, **listed}.items()}


def _extend(path: Path, foreign: set[str], by: tuple[Path, ...] = ()) -> Options:
    """The options of a file, on top of those that it extends, but for the `foreign` ones of these."""
    if path.resolve() in by:
        raise ConfigError(f"extends goes in a circle: {' -> '.join(str(p) for p in (*by, path.resolve()))}")
    said = read_yaml(path)
    options = {key: value for key, value in said.items() if key not in OWN}
    if "extends" not in said:
        return options
    if not isinstance(said["extends"], str) or "\0" in said["extends"]:
        raise ConfigError(f"{path}: extends names one file, relative to this one, got {said['extends']!r}")
    inherited = _extend(path.parent / said["extends"], foreign, (*by, path.resolve()))
    return _merge({key: value for key, value in inherited.items() if key not in foreign}, options)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> Options:
    """`own` on top of `base`, mappings within mappings likewise; null takes away what `base` has."""
    merged = dict(base)
    for key, value in own.items():
        if value is None and key in base:
            del merged[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value)
        else:
            merged[key] = value
    return merged
