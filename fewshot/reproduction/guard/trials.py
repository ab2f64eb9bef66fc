"""Trials: shortened recipes, trained on training classes, measured on validation classes, compared with bounds."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fewshot import cli
from fewshot.errors import ConfigError
from fewshot.evaluation.records import Records
from fewshot.experiments.build import build_classifier, load_split, measure
from fewshot.experiments.cells import list_test_cells
from fewshot.experiments.starting import build_starting_method
from fewshot.methods import find_method, list_methods
from fewshot.registry import unknown_name
from fewshot.reproduction.guard.bounds import Floor, Floors, find_below, read_floors, write_floors
from fewshot.reproduction.recipes import find_runs
from fewshot.reproduction.runs import Run
from fewshot.runtime.provenance import collect_provenance
from fewshot.training.train import train

SAME = ("precision", "data_fingerprint")  # the table notes where these differ from those of the bounds


@dataclass
class GuardConfig:
    """How the recipes are shortened and measured."""

    n_episodes: int = 400
    """validation episodes of each cell"""
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """each recipe of the folder, with the options that differ from it"""


@dataclass(frozen=True)
class Trial:
    """The accuracies of a recipe. `seconds`: of its training and measuring, without the run it starts from."""

    recipe: str
    seed: int
    records: list[Records]  # one for each cell
    seconds: float

    @property
    def means(self) -> dict[str, float]:
        """Mean accuracy in each cell."""
        return {records.cell: records.mean for records in self.records}

    def row(self, floors: Mapping[str, Floor]) -> str:
        """Format a row of the table: for each cell the accuracy, its bound, and the margin in standard deviations."""
        cells = [
            f"{cell} {100 * mean:5.1f} (floor {100 * floors[cell].floor:4.1f}, {floors[cell].margin(mean):+6.1f} sd)"
            for cell, mean in self.means.items()
        ]
        verdict = "BELOW THE FLOOR" if find_below(self.means, floors) else "ok"
        return "  ".join([f"{self.recipe:16}", *cells, f"{self.seconds:5.1f} s", verdict])


def read_config(path: Path) -> GuardConfig:
    """Read the guard's YAML file; raises `ConfigError` if it is invalid."""
    try:
        return cli.parse(GuardConfig, "", ["--config", str(path)])
    except SystemExit:  # the parser has printed the reason on stderr
        raise ConfigError(f"{path} is no valid configuration of the guard") from None


def make_short_runs(
    recipes: Path, out: Path, config: GuardConfig, seeds: Sequence[int], names: Sequence[str] = ()
) -> list[Run]:
    """Make the shortened runs of the recipes in the order of running: all, or `names` and those they start from.

    Raises `ConfigError` for a recipe that `config` does not list and, if all are run, for a published method without
    a recipe.
    """
    runs = find_runs(recipes, out, seeds, names)
    published = {name for name in list_methods() if find_method(name).published}
    unguarded = published - {run.config.method for run in runs if not run.is_pretrain}
    if unguarded and not names:
        raise ConfigError(f"no recipe of {recipes} is for the method {', '.join(sorted(unguarded))}: add one")
    return [_shorten(run, config) for run in runs]


def _shorten(run: Run, config: GuardConfig) -> Run:
    if run.name not in config.recipes:
        raise ConfigError(f"the guard does not say how the recipe {run.name} is cut short; add it to its recipes")
    known = [part.name for part in fields(run.config)]
    for option in config.recipes[run.name]:
        if option not in known:
            raise unknown_name(f"option of the recipe {run.name}", option, known)
    return replace(run, config=replace(run.config, test_episodes=config.n_episodes, **config.recipes[run.name]))


def find_missing_library(run: Run) -> str:
    """Find the library that the recipe needs and that is not installed; empty if none is missing."""
    library = "" if run.is_pretrain else find_method(run.config.method).requires
    return library if library and find_spec(library) is None else ""


def try_run(run: Run) -> Trial:
    """Train a run without validation, and measure its last weights on validation classes."""
    started, config = time.perf_counter(), run.config
    train_set, val_set = load_split(config, "train"), load_split(config, "val")
    if run.is_pretrain:
        method = build_classifier(config, train_set.image_shape, train_set.n_classes)
    else:
        method = build_starting_method(config, train_set)
    train(method, train_set, None, config)
    records = measure(method, val_set, list_test_cells(config), config, selected_on="nothing: last step")
    return Trial(run.name, config.seed, records, time.perf_counter() - started)


def _try_runs(runs: Sequence[Run]) -> Iterator[Trial]:
    """Try one run after the other; runs whose library is missing are named and skipped."""
    for run in runs:
        library = find_missing_library(run)
        if library:
            print(f"{run.name:16}  not measured: {library} is not installed (make {library})", flush=True)
        else:
            yield try_run(run)


def compare(runs: Sequence[Run], path: Path, config: GuardConfig) -> list[str]:
    """Try every run and print the table; returns a sentence for each accuracy below its bound in the file `path`.

    Raises `ConfigError`, before anything is trained, for a recipe without bounds, or with bounds of other options.
    """
    held, fallen, differing, started = read_floors(path), [], {}, time.perf_counter()
    for run in runs:
        if not find_missing_library(run):
            _check_made_so(run.name, held, config, path)
    for trial in _try_runs(runs):
        floors, header = held[trial.recipe], trial.records[0].header
        print(trial.row(floors.cells), flush=True)
        fallen += [
            f"{trial.recipe}, {cell}: {100 * trial.means[cell]:.1f} is below {100 * floors.cells[cell].floor:.1f}"
            for cell in find_below(trial.means, floors.cells)
        ]
        pairs = {key: (floors.about[key], getattr(header, key)) for key in SAME}
        differing |= {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    for key, (there, here) in differing.items():
        print(f"note: floors were made with {key} {there}, here it is {here}")
    print(f"{time.perf_counter() - started:.0f} s. Below the floor: {'; '.join(fallen) or 'nothing'}")
    return fallen


def _check_made_so(recipe: str, held: Mapping[str, Floors], config: GuardConfig, path: Path) -> None:
    advice = f"python scripts/guard.py --calibrate --recipes {recipe}"
    if recipe not in held:
        raise ConfigError(f"{path} has no floor for {recipe}; make it: {advice}")
    now, then = (config.recipes[recipe], config.n_episodes), (held[recipe].options, held[recipe].n_episodes)
    if now != then:
        raise ConfigError(
            f"{path}: the floor of {recipe} was made with {then}, now it is {now}; make it anew: {advice}"
        )


def calibrate(runs: Sequence[Run], path: Path, config: GuardConfig) -> None:
    """Write bounds of the recipes to the file `path`, computed from their runs with several training seeds."""
    trials: dict[str, list[Trial]] = {}
    for trial in _try_runs(runs):
        cells = "  ".join(f"{cell} {100 * mean:5.1f}" for cell, mean in trial.means.items())
        print(f"{trial.recipe:16}  seed {trial.seed}  {cells}  {trial.seconds:5.1f} s", flush=True)
        trials.setdefault(trial.recipe, []).append(trial)
    write_floors(path, {name: compute_floors(several, config.recipes[name]) for name, several in trials.items()})


def compute_floors(trials: Sequence[Trial], options: Mapping[str, Any]) -> Floors:
    """Compute the bounds of a recipe from its trials with several training seeds, and note how they were made."""
    header, cells, accuracies = trials[0].records[0].header, {}, {}
    for number, cell in enumerate(trials[0].means):
        records = [trial.records[number] for trial in trials]
        errors = [r.accuracy.std(ddof=1) / math.sqrt(len(r.episodes)) for r in records]
        cells[cell] = Floor.of([r.mean for r in records], float(np.mean(errors)))
        accuracies[cell] = [round(r.mean, 5) for r in records]
    made = collect_provenance()
    about = {"seeds": [trial.seed for trial in trials], "accuracies": accuracies}
    about |= {key: getattr(header, key) for key in ("dataset", "split", *SAME)}
    about |= {key: made[key] for key in ("commit", "command", "hardware")}
    return Floors(cells, dict(options), header.n_episodes, about)
