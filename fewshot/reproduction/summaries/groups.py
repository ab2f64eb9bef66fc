"""Runs that differ only in their seed are one line; lines differ in some options, which are the table's columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewshot.errors import ConfigError, DataError
from fewshot.evaluation.record_header import RecordHeader, find_episode_differences, same_episodes
from fewshot.evaluation.records import Measured
from fewshot.evaluation.statistics import Estimate, compute_mean_interval, compute_paired_difference
from fewshot.registry import unknown_name
from fewshot.reproduction.summaries.sources import OWN, Source
from fewshot.reproduction.tables.accuracies import shorten
from fewshot.training.run_folder import NOT_COMPARED
from fewshot.training.tracking.hyperparameters import list_hyperparameters

FIRST = ("method", "classifier", "backbone", "dataset")  # columns
SAYS_NOTHING = ("test_", "log_", "checkpoint_", "kind")  # options that change no weight; episodes are compared apart
ABSENT = "–"  # what a table shows for an option that a run does not have, and for a number that there is not
Column = tuple[str, str]  # the test set (of test_also, or "") and the cell, 5w1s


@dataclass(frozen=True)
class Both:
    """A mean over seeds and episodes, with two 95% intervals.

    `episodes`: of the mean over seeds, over episodes: what other test episodes would change. `seeds`: over training
    seeds: what another training would change, None with one seed.
    """

    episodes: Estimate
    seeds: Estimate | None


@dataclass(frozen=True)
class Line:
    """Runs of one configuration, one for each seed: what they reached.

    `values`: of the options that differ between the lines. `measured`: of each column, by seed.
    """

    values: dict[str, str]
    row: str
    measured: dict[Column, dict[int, Measured]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name, such as `lr 0.001, inner_steps 5`, with the row if that is not the run's own."""
        parts = [f"{name} {value}" for name, value in self.values.items()]
        return ", ".join([*parts, *([self.row] if self.row else [])]) or "all runs"

    @property
    def headers(self) -> list[RecordHeader]:
        """The headers of all its records."""
        return [measured.header for by_seed in self.measured.values() for measured in by_seed.values()]

    @property
    def seeds(self) -> list[int]:
        """The training seeds."""
        return sorted({seed for by_seed in self.measured.values() for seed in by_seed})

    def accuracy(self, column: Column) -> np.ndarray:
        """Of each episode, the mean over seeds, (n_episodes,)."""
        return np.mean([measured.accuracy for measured in self.measured[column].values()], 0)

    def estimate(self, column: Column) -> Both | None:
        """The mean of a column with both intervals; None if it was not measured."""
        by_seed = self.measured.get(column)
        if not by_seed:
            return None
        means = [measured.mean for measured in by_seed.values()]
        return Both(
            compute_mean_interval(self.accuracy(column)), compute_mean_interval(means) if len(means) > 1 else None
        )

    def minus(self, other: "Line", column: Column) -> Both | None:
        """The difference to another line, paired by episode, and by seed if both have the same seeds.

        None if one of them was not measured, or was measured on other episodes.
        """
        mine, theirs = self.measured.get(column), other.measured.get(column)
        if not mine or not theirs or not same_episodes(_first(mine).header, _first(theirs).header):
            return None
        by_seed = [mine[seed].mean - theirs[seed].mean for seed in mine if seed in theirs]
        paired = mine.keys() == theirs.keys() and len(by_seed) > 1
        over_seeds = compute_mean_interval(by_seed) if paired else None
        return Both(compute_paired_difference(self.accuracy(column), other.accuracy(column)), over_seeds)


@dataclass(frozen=True)
class Summary:
    """Lines that differ in `options`, their columns, and the line that the others are compared with."""

    options: list[str]
    lines: list[Line]
    columns: list[Column]
    reference: Line

    @property
    def others(self) -> list[Line]:
        """The lines that are compared with the reference."""
        return [line for line in self.lines if line is not self.reference]


def summarize(sources: Sequence[Source], cells: Sequence[str] = (), against: str | None = None) -> Summary:
    """Group runs by their configuration without the seed.

    Args:
        sources: what `read_sources` read.
        cells: the columns, such as 5w1s (default: all).
        against: what the others are compared with: the title of a line, or the place of a run (default: the first).

    Raises:
        ConfigError: two runs are of the same configuration and seed, or a cell is in no run.
        DataError: the seeds of a line were measured on different episodes.
        UnknownNameError: no line is called `against`.
    """
    described = [_describe(source) for source in sources]
    options = _find_differing(described)
    names = _name_shortly(options)
    lines: dict[tuple[str, ...], Line] = {}
    of_place: dict[str, Line] = {}
    for source, about in zip(sources, described, strict=True):
        for (test_set, row), records in source.records.items():
            values = {name: about.get(option, ABSENT) for name, option in zip(names, options, strict=True)}
            line = lines.setdefault((*values.values(), row), Line(values, row))
            if row == OWN and not test_set:
                of_place[str(source.place)] = line
            for measured in records:
                column = (test_set, shorten(measured.cell))
                by_seed = line.measured.setdefault(column, {})
                if source.config.seed in by_seed:
                    raise ConfigError(
                        f"{source.place} and a run before it are of the same configuration and seed "
                        f"({line.title}, seed {source.config.seed}): name one of them"
                    )
                by_seed[source.config.seed] = measured
    found = list(lines.values())
    for line in found:
        _refuse_other_episodes(line)
    columns = _choose_columns(found, cells)
    called = {line.title: line for line in found} | of_place
    if against is not None and against.rstrip("/") not in called:
        raise unknown_name("line of the table", against, called)
    return Summary(names, found, columns, called[against.rstrip("/")] if against else found[0])


def _describe(source: Source) -> dict[str, str]:
    """The options of a run as text, without those that say nothing of what it computes, and the seed."""
    seed = source.config.seed
    values: dict[str, Any] = {
        name: value
        for name, value in list_hyperparameters(source.config).items()
        if name not in NOT_COMPARED and not name.startswith(SAYS_NOTHING) and name != "seed"
    }
    if "pretrained_run" in values:  # of each seed the stage 1 of that seed
        values["pretrained_run"] = re.sub(rf"-seed{seed}$", "", str(values["pretrained_run"]))
    return {name: str(value) for name, value in values.items()}


def _find_differing(described: Sequence[dict[str, str]]) -> list[str]:
    names = dict.fromkeys((*FIRST, *(name for about in described for name in about)))
    return [name for name in names if len({about.get(name, ABSENT) for about in described}) > 1]


def _name_shortly(options: Sequence[str]) -> list[str]:
    """The last parts of the names, where these tell them apart."""
    last = [option.rpartition(".")[2] for option in options]
    return [short if last.count(short) == 1 else option for short, option in zip(last, options, strict=True)]


def _refuse_other_episodes(line: Line) -> None:
    for column, by_seed in line.measured.items():
        first = _first(by_seed)
        for seed, measured in by_seed.items():
            for key, values in find_episode_differences(first.header, measured.header).items():
                raise DataError(
                    f"{line.title}, {column[1]}: seed {seed} was measured on other episodes, {key}: {list(values)}"
                )


def _choose_columns(lines: Sequence[Line], cells: Sequence[str]) -> list[Column]:
    found = dict.fromkeys(column for line in lines for column in line.measured)
    known = dict.fromkeys(cell for _, cell in found)
    for cell in cells:
        if cell not in known:
            raise unknown_name("cell of these runs", cell, known)
    ordered = sorted(found, key=lambda column: (column[0], [int(n) for n in re.findall(r"\d+", column[1])]))
    return [column for column in ordered if not cells or column[1] in cells]


def _first(by_seed: dict[int, Measured]) -> Measured:
    return next(iter(by_seed.values()))
