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
networks:                    # the same training and rows with other networks: a name, and the options that differ
  resnet12: {backbone: resnet12}  # gives pretrain_resnet12 and simpleshot_resnet12; their folders have the name too
test_sets:                   # each row is measured on each test set: a name, and the options that differ
  signs: {test_dataset: gtsrb}    # gives simpleshot_signs; only in a file of kind frozen
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewshot.config.experiments import EPISODIC, PRETRAIN, ExperimentConfig, PretrainExperimentConfig, SetupConfig
from fewshot.config.training import TrainConfig
from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name
from fewshot.runtime.files import follow_links

FROZEN, BASE = "frozen", "base"  # kinds of files that train nothing
KINDS = (EPISODIC, PRETRAIN, FROZEN, BASE)
SCRIPTS = {EPISODIC: "train_episodic.py", PRETRAIN: "pretrain.py"}  # what runs a configuration of each kind
OWN = ("kind", "extends", "row", "rows")  # keys about the file itself: neither options nor inherited
OF_CELL = {"n_way": "test_n_way", "n_shot": "test_n_shot", "n_query": "test_n_query", "n_episodes": "test_episodes"}
VALIDATION = {"val_n_way", "val_n_shot", "val_n_query", "val_episodes"}
NAMED = ("networks", "test_sets")  # names with options each, which files that extend one have too
NOT_OF_A_ROW = ("kind", "extends", "row", "rows", "seed", "run_dir")
ROW_NAME = re.compile(r"[A-Za-z][\w.+-]*")
OF_ROWS = {field.name for field in fields(SetupConfig)} | VALIDATION | {"precision", "allow_seen_classes", "test_cells"}
"""Options that rows inherit from their file; the other options concern its training."""

EPISODES, BATCHES = ({field.name for field in fields(c)} for c in (ExperimentConfig, PretrainExperimentConfig))
OF_TRAINING = {field.name for field in fields(TrainConfig)} - OF_ROWS
"""Options that a row must not give: it trains nothing."""
FOREIGN = {EPISODIC: BATCHES - EPISODES, PRETRAIN: EPISODES - BATCHES}
"""For each kind the options that only the other kind has: ignored in a base file that both kinds extend."""

Options = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One run of a recipe: its name, the row of the tables that shows its numbers, its kind and its options.

    `test_set`: the name in the recipe's `test_sets` of what the run is measured on, or "".
    """

    name: str
    row: str
    kind: str
    options: Options
    test_set: str = ""


@dataclass(frozen=True)
class Recipe:
    """The runs of a recipe: its training (None if the file trains nothing), and its rows and further networks."""

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
    kind, row = said.get("kind", default_kind), said.get("row", path.stem)
    if kind not in KINDS:
        raise unknown_name(f"kind of {path}", str(kind), KINDS)
    if not isinstance(row, str):
        raise ConfigError(f"{path}: row is the name of a row of the tables, got {str(row)[:200]!r}")
    foreign = FOREIGN.get(kind, set())
    rows, options = _read_named(said, "rows", path), _extend(path, foreign)
    networks, test_sets = {"": {}, **_read_named(options, "networks", path)}, _read_named(options, "test_sets", path)
    trains = kind not in (FROZEN, BASE)
    if trains and test_sets:
        raise ConfigError(f"{path}: test_sets are for rows without a training: set kind to {FROZEN}, got {kind}")
    trainings, entries = [], []
    for network, differing in networks.items():
        own_options = {key: value for key, value in differing.items() if key not in foreign}
        whole = _rename_runs(_merge({key: options[key] for key in options if key not in NAMED}, own_options), network)
        if trains:
            trainings.append(_make_training(_join(path.stem, network), _join(row, network), kind, whole, path))
        shared = {key: value for key, value in whole.items() if key in OF_ROWS} | {"max_steps": 0}
        if rows and trains:
            if "run_dir" not in whole:
                raise ConfigError(f"{path}: the rows start from its trained weights: name their folder with run_dir")
            shared["pretrained_run"] = whole["run_dir"]
        elif "test_variants" in whole:
            shared["test_variants"] = whole["test_variants"]
        for name, own in rows.items():
            for test_set, elsewhere in (test_sets or {"": {}}).items():
                of_row = _merge(_merge(shared, elsewhere), _rename_runs(own, network))
                entries += _make_row(_join(name, network), test_set, {"method": name, **of_row}, path)
    return Recipe(path, kind, trainings[0] if trains else None, [*trainings[1:], *entries])


def _read_named(options: Options, key: str, path: Path) -> dict[str, Options]:
    """The options under `key`, by name.

    Raises `ConfigError` for a name that cannot be a file name, and for options that an entry cannot set.
    """
    named = options.get(key, {})
    if not isinstance(named, dict) or not all(isinstance(own, dict) for own in named.values()):
        raise ConfigError(f"{path}: {key} must hold names with a mapping of options each, got {str(named)[:200]!r}")
    for name, own in named.items():
        what = f"the {key.removesuffix('s').replace('_', ' ')} {name}"
        if not isinstance(name, str) or not ROW_NAME.fullmatch(name):
            raise ConfigError(
                f"{path}: a name in {key} is a letter, then letters, digits and any of . _ + -, got {str(name)[:200]!r}"
            )
        refused = [option for option in NOT_OF_A_ROW if option in own]
        if refused:
            raise ConfigError(f"{path}: {what} cannot set {', '.join(refused)}; set it in the file, or by --seed")
        refused = sorted(own.keys() & OF_TRAINING) if key == "rows" else []
        if refused:
            raise ConfigError(f"{path}: {what} cannot set {', '.join(refused)}: a row trains nothing")
    return named


def _join(name: str, added: str) -> str:
    return f"{name}_{added}" if added else name


def _rename_runs(options: Options, network: str) -> Options:
    """Append the name of the network to the folders of runs."""
    return options | {key: _join(options[key], network) for key in ("run_dir", "pretrained_run") if options.get(key)}


def _make_training(name: str, row: str, kind: str, options: Options, path: Path) -> Entry:
    cells = _read_test_cells(options, path)
    return Entry(name, row, kind, _drop_cells(options) | _describe_cell(cells[0], path))


def _make_row(row: str, test_set: str, options: Options, path: Path) -> list[Entry]:
    """Make a run for each test cell: the first has the name of the row, others add what differs: `baseline_10shot`."""
    first, *others = _read_test_cells(options, path)
    name, options = _join(row, test_set), _drop_cells(options)
    entries = [Entry(name, row, EPISODIC, options | _describe_cell(first, path), test_set)]
    for cell in others:
        differing = [key for key in ("n_way", "n_shot") if cell.get(key) != first.get(key)]
        if len(differing) != 1 or not isinstance(cell.get(differing[0]), int):
            shown = f"{str(first)[:200]} in n_way or n_shot, got {str(cell)[:200]}"
            raise ConfigError(f"{path}: a later test cell must differ from {shown}")
        added = f"{cell[differing[0]]}{differing[0].removeprefix('n_')}"
        entries.append(Entry(f"{name}_{added}", row, EPISODIC, options | _describe_cell(cell, path), test_set))
    return entries


def _read_test_cells(options: Options, path: Path) -> list[Options]:
    cells = options.get("test_cells", [{}])
    if not isinstance(cells, list) or not cells or not all(isinstance(cell, dict) for cell in cells):
        raise ConfigError(f"{path}: test_cells must be a list with a mapping for each run, got {str(cells)[:200]!r}")
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
    if follow_links(path) in by:
        raise ConfigError(f"extends goes in a circle: {' -> '.join(str(p) for p in (*by, follow_links(path)))}")
    said = read_options(path)
    options = {key: value for key, value in said.items() if key not in OWN}
    if "extends" not in said:
        return options
    if not isinstance(said["extends"], str) or "\0" in said["extends"]:
        raise ConfigError(f"{path}: extends names one file, relative to this one, got {said['extends']!r}")
    inherited = _extend(path.parent / said["extends"], foreign, (*by, follow_links(path)))
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
