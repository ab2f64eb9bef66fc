"""Formats tables of all methods on one data set from stored results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

import numpy as np

from fewshot.errors import DataError
from fewshot.evaluation.record_header import find_episode_differences, same_episodes
from fewshot.evaluation.records import Measured
from fewshot.evaluation.report import format_percent, format_signed_percent
from fewshot.evaluation.rows import RowKind
from fewshot.evaluation.statistics import Estimate, compute_mean_interval, compute_paired_difference
from fewshot.reproduction.results import Result, describe_curve, name_row

REFERENCE = "protonet"  # the row with which the others are compared; its runs also measure FLOOR_ROWS
OWN_ROWS = (RowKind.TRAINED, RowKind.FROZEN)  # rows under the method's own name
FLOOR_ROWS = (RowKind.UNTRAINED, RowKind.RAW_PIXELS)  # rows without training
NOT_RUN, NO_CELL = "not run", "–"


@dataclass(frozen=True)
class Plan:
    """What the runs of a recipe measure.

    `row`: the row of the tables with the method's own numbers; `cells`: by kind of row and by variant.
    """

    row: str
    cells: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    `cells`: for each cell that its recipes measure, the records of each training seed. `still_rising`: cells whose
    validation accuracy was still rising when the training of a seed ended.
    """

    name: str
    cells: dict[str, list[Measured]] = field(default_factory=dict)
    still_rising: set[str] = field(default_factory=set)

    @property
    def mark(self) -> str:
        """The mark of rows whose weights were trained on test classes; else empty."""
        return "".join(dict.fromkeys(measured.mark for records in self.cells.values() for measured in records))

    @property
    def title(self) -> str:
        """Its name and mark."""
        return self.name + self.mark

    def accuracy(self, cell: str) -> np.ndarray:
        """The accuracy of each episode, averaged over training seeds, (n_episodes,)."""
        return np.mean([measured.accuracy for measured in self.cells[cell]], 0)

    def estimate(self, cell: str) -> Estimate:
        """The mean over seeds and episodes, with the 95% interval over episodes."""
        return compute_mean_interval(self.accuracy(cell))

    def spread(self, cell: str) -> float | None:
        """The standard deviation over training seeds; None with one seed."""
        means = [measured.mean for measured in self.cells[cell]]
        return stdev(means) if len(means) > 1 else None

    def header(self, key: str) -> str:
        """The distinct values of the field `key` in the headers of its records."""
        return join_distinct(m.header.value(key) for records in self.cells.values() for m in records)


def make_rows(results: Sequence[Result], planned: Mapping[str, Plan], test_set: str = "") -> list[Row]:
    """Make the rows of the tables. `planned`: what the runs of each recipe measure.

    Planned cells without a result are empty. Raises `DataError` if two recipes measure the same cell of a row, or if
    the seeds of a recipe were measured on different episodes.
    """
    rows: dict[str, Row] = {}
    for recipe, plan in planned.items():
        for kind, cells in plan.cells.items():
            name = label_row(plan.row, kind)
            row = rows.setdefault(name, Row(name))
            mine = [result for result in results if result.recipe == recipe]
            rising = kind not in FLOOR_ROWS and any(describe_curve(r.facts["history"]) == "rising" for r in mine)
            row.still_rising.update(cells if rising else ())
            for cell in cells:
                stored = [
                    measured
                    for result in mine
                    for measured in result.records.get(name_row(test_set, kind), [])
                    if measured.cell == cell
                ]
                if cell in row.cells:
                    raise DataError(f"{row.name}, {cell}: {recipe} and a recipe before it both measure this cell")
                row.cells[cell] = stored
    for row in rows.values():
        _refuse_other_episodes(row)
    return list(rows.values())


def label_row(row: str, kind: str) -> str:
    """Label a row: `maml`, `maml, transductive` for a variant, `untrained protonet`, `raw pixels`."""
    if kind == RowKind.UNTRAINED:
        return f"untrained {row}"
    if kind == RowKind.RAW_PIXELS:
        return kind
    return row if kind in (*OWN_ROWS, RowKind.CLASSIFIER) else f"{row}, {kind}"


def _refuse_other_episodes(row: Row) -> None:
    for cell, records in row.cells.items():
        for measured in records[1:]:
            for key, values in find_episode_differences(records[0].header, measured.header).items():
                raise DataError(
                    f"{row.name}, {cell}: the seeds were measured on different episodes, {key}: {list(values)}"
                )


def shorten(cell: str) -> str:
    """Shorten `5-way 1-shot` to `5w1s`."""
    return cell.replace("-way ", "w").replace("-shot", "s")


def format_accuracies(rows: Sequence[Row], cells: Sequence[str]) -> str:
    """Format the table of accuracies: mean over seeds ± 95% interval over episodes, (standard deviation over seeds)."""
    head = ["method", *map(shorten, cells), "seeds", "transductive", "weights selected on"]
    lines = []
    for row in sorted(rows, key=lambda row: _rank(row, cells)):
        ran = any(row.cells.get(cell) for cell in cells)
        about = [row.header("transductive").replace("True", "yes").replace("False", "no"), row.header("selected_on")]
        lines.append(
            [
                row.title,
                *(format_ours(row, cell) for cell in cells),
                *([_format_n_seeds(row, cells), *about] if ran else [NO_CELL] * 3),
            ]
        )
    return format_markdown(head, lines)


def _format_n_seeds(row: Row, cells: Sequence[str]) -> str:
    """Format the number of seeds: `3`, or `3 / 3 / – / 1` by cell if it differs between cells."""
    numbers = [len(row.cells[cell]) if cell in row.cells else None for cell in cells]
    different = set(numbers) - {None}
    return str(*different) if len(different) == 1 else " / ".join(NO_CELL if n is None else str(n) for n in numbers)


def _rank(row: Row, cells: Sequence[str]) -> tuple[int, float]:
    """The sort key of a row: its first measured cell, then the accuracy there; rows that did not run come last."""
    for i, cell in enumerate(cells):
        if row.cells.get(cell):
            return i, -row.estimate(cell).mean
    return len(cells), 0.0


def format_ours(row: Row, cell: str) -> str:
    """Format `98.46 ± 0.14 (0.08)`, "not run", or a dash for a cell that no recipe measures."""
    if cell not in row.cells:
        return NO_CELL
    if not row.cells[cell]:
        return NOT_RUN
    spread = row.spread(cell)
    return format_percent(row.estimate(cell)) + ("" if spread is None else f" ({100 * spread:.2f})")


def format_differences(rows: Sequence[Row], cells: Sequence[str], reference: str) -> str:
    """Format each row minus the row `reference`, paired by episode; a dash if episodes or images differ."""
    base = next((row for row in rows if row.name == reference), None)
    if base is None or not any(base.cells.values()):
        return ""
    lines = []
    for row in sorted(rows, key=lambda row: _rank(row, cells)):
        if row is not base and any(row.cells.values()):
            lines.append([row.title, *(_format_difference(row, base, cell) for cell in cells)])
    return format_markdown([f"minus {base.title}", *map(shorten, cells)], lines) if lines else ""


def _format_difference(row: Row, base: Row, cell: str) -> str:
    mine, theirs = row.cells.get(cell), base.cells.get(cell)
    if not mine or not theirs or not same_episodes(mine[0].header, theirs[0].header):
        return NO_CELL
    return format_signed_percent(compute_paired_difference(row.accuracy(cell), base.accuracy(cell)))


def format_markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with aligned columns; `|` in a text is escaped."""
    text = [[t.replace("|", r"\|") for t in line] for line in (head, ["---"] * len(head), *lines)]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return "\n".join(
        f"| {' | '.join(t.ljust(width) for t, width in zip(line, widths, strict=True))} |" for line in text
    )


def join_distinct(values: Iterable[object]) -> str:
    """Join the distinct values in order of first appearance."""
    return "; ".join(dict.fromkeys(map(str, values)))
