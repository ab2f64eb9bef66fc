"""Tables of all methods on one data set, made from stored results alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from fewshot.errors import DataError
from fewshot.records import Measured
from fewshot.report import percent, signed_percent
from fewshot.results import Result
from fewshot.statistics import Estimate, mean_interval, paired_difference

SAME_EPISODES = ("data_fingerprint", "split", "seed", "n_episodes", "spec")  # of records that are compared in pairs
WAYS = re.compile(r"_\d+way$")  # ends the name of a recipe that adds cells of other ways to a method's row
FLOOR_ROWS = ("untrained", "raw pixels")  # what a method reaches without training
NOT_RUN, NO_CELL = "not run", "–"


@dataclass(frozen=True)
class Row:
    """A method in the tables.

    `cells`: for each cell that its recipes measure, the records, one for each training seed.
    """

    name: str
    cells: dict[str, list[Measured]] = field(default_factory=dict)

    def accuracy(self, cell: str) -> np.ndarray:
        """Of each episode, the mean over training seeds, (n_episodes,)."""
        return np.mean([measured.accuracy for measured in self.cells[cell]], 0)

    def estimate(self, cell: str) -> Estimate:
        """Mean over seeds and episodes; the interval speaks of episodes."""
        return mean_interval(self.accuracy(cell))

    def spread(self, cell: str) -> float | None:
        """Standard deviation over training seeds; None with one seed."""
        means = [measured.mean for measured in self.cells[cell]]
        return stdev(means) if len(means) > 1 else None

    def header(self, key: str) -> str:
        """What its records' headers say under `key`."""
        return _distinct(m.header.get(key, "unknown") for records in self.cells.values() for m in records)


def rows_of(
    results: Sequence[Result], planned: Mapping[str, Mapping[str, Sequence[str]]], test_set: str = ""
) -> list[Row]:
    """A row for each method. `planned`: for each recipe, the cells of each row that its runs measure.

    Cells that are planned and not among the results are in the row, empty. Rows of "untrained" and "raw pixels"
    stem from the recipe that comes first, as `planned` has them.
    """
    rows: dict[str, Row] = {}
    for recipe, recipe_rows in planned.items():
        for row_name, cells in recipe_rows.items():
            row = rows.setdefault(_label(recipe, row_name), Row(_label(recipe, row_name)))
            for cell in cells:
                stored = [
                    measured
                    for result in results
                    if result.recipe == recipe
                    for measured in result.records.get(": ".join(filter(None, [test_set, row_name])), [])
                    if measured.cell == cell
                ]
                row.cells[cell] = [*row.cells.get(cell, []), *stored]
    for row in rows.values():
        _refuse_other_episodes(row)
    return list(rows.values())


def row_name(recipe: str) -> str:
    """The row that a recipe's own records stand in: `maml` for maml_20way."""
    return WAYS.sub("", recipe)


def _label(recipe: str, row: str) -> str:
    """`maml` for recipe maml_20way's own row, `maml, transductive` for its variant, `untrained protonet`."""
    name = row_name(recipe)
    if row == "untrained":
        return f"untrained {name}"
    if row == "raw pixels":
        return row
    if row == "classifier-baseline":
        return name.replace("pretrain", row)
    return name if row == "trained" else f"{name}, {row}"


def _refuse_other_episodes(row: Row) -> None:
    for cell, records in row.cells.items():
        for measured in records[1:]:
            for key in SAME_EPISODES:
                values = [m.header[key] for m in (records[0], measured)]
                if values[0] != values[1]:
                    raise DataError(
                        f"{row.name}, {cell}: the seeds were measured on different episodes, {key}: {values}"
                    )


def short(cell: str) -> str:
    """`5w1s` for `5-way 1-shot`."""
    return cell.replace("-way ", "w").replace("-shot", "s")


def accuracies(rows: Sequence[Row], cells: Sequence[str]) -> str:
    """The main table: mean over seeds ± 95% interval over episodes, (standard deviation over seeds)."""
    head = ["method", *map(short, cells), "seeds", "transductive", "weights selected on"]
    lines = []
    for row in sorted(rows, key=lambda row: _rank(row, cells)):
        seeds = {len(row.cells[cell]) for cell in cells if row.cells.get(cell)}
        about = [row.header("transductive").replace("True", "yes").replace("False", "no"), row.header("selected_on")]
        lines.append(
            [
                row.name,
                *(ours(row, cell) for cell in cells),
                *([_distinct(sorted(seeds)), *about] if seeds else ["–"] * 3),
            ]
        )
    return markdown(head, lines)


def _rank(row: Row, cells: Sequence[str]) -> tuple[bool, float]:
    """Best first in the first cell that it has; at the end what did not run."""
    means = [row.estimate(cell).mean for cell in cells if row.cells.get(cell)]
    return (True, 0.0) if not means else (False, -means[0])


def ours(row: Row, cell: str) -> str:
    """`98.46 ± 0.14 (0.08)`, or that it was not run, or a dash for a cell that no recipe measures."""
    if cell not in row.cells:
        return NO_CELL
    if not row.cells[cell]:
        return NOT_RUN
    spread = row.spread(cell)
    return percent(row.estimate(cell)) + ("" if spread is None else f" ({100 * spread:.2f})")


def differences(rows: Sequence[Row], cells: Sequence[str], reference: str) -> str:
    """Each row minus the row called `reference`, paired by episode; a dash where the episodes or drawings differ."""
    base = next((row for row in rows if row.name == reference), None)
    if base is None or not any(base.cells.values()):
        return ""
    lines = []
    for row in sorted(rows, key=lambda row: _rank(row, cells)):
        if row is not base and any(row.cells.values()):
            lines.append([row.name, *(_difference(row, base, cell) for cell in cells)])
    return markdown([f"minus {reference}", *map(short, cells)], lines)


def _difference(row: Row, base: Row, cell: str) -> str:
    mine, theirs = row.cells.get(cell), base.cells.get(cell)
    if not mine or not theirs or any(mine[0].header[key] != theirs[0].header[key] for key in SAME_EPISODES):
        return NO_CELL
    return signed_percent(paired_difference(row.accuracy(cell), base.accuracy(cell)))


def training(results: Sequence[Result], recipes: Iterable[str]) -> str:
    """How each recipe was trained: seeds, what it saw, minutes, its validation curve, precision, data, commit."""
    head = [
        "recipe", "training seeds", "trained on", "minutes a seed", "best validation", "at the end", "precision",
        "data", "commit", "hardware",
    ]  # fmt: skip
    lines = []
    for recipe in recipes:
        mine = [result for result in results if result.recipe == recipe]
        lines.append([recipe, *(_about(mine) if mine else [NOT_RUN, *["–"] * (len(head) - 2)])])
    return markdown(head, lines)


def _about(results: Sequence[Result]) -> list[str]:
    """What `training` says of the seeds of one recipe."""
    headers = [measured.header for result in results for records in result.records.values() for measured in records]
    seen = [" + ".join(filter(None, (what for what, _ in result.facts["stages"]))) for result in results]
    minutes = zip(*([minutes for _, minutes in result.facts["stages"]] for result in results), strict=True)
    keys = ("precision", "data_fingerprint", "commit", "hardware")
    return [
        ", ".join(str(result.seed) for result in results),
        _distinct(what or "nothing" for what in seen),
        " + ".join(f"{fmean(of_stage):.1f}" for of_stage in minutes),
        _best_validation(results),
        _distinct(curve(result.facts["history"]) for result in results),
        *(_distinct(header.get(key, "unknown") for header in headers) for key in keys),
    ]


def _best_validation(results: Sequence[Result]) -> str:
    best = [max(mean for _, _, mean, _ in result.facts["history"]) for result in results if result.facts["history"]]
    return f"{100 * fmean(best):.2f}" if best else NO_CELL


def curve(history: Sequence[Sequence[float]]) -> str:
    """Whether validation was still rising when training ended, as far as its interval can tell.

    Rising: the best of the last quarter of training lies above the best before by more than a standard error.
    """
    if len(history) < 4:
        return "too few points" if history else "not kept"
    last_step = history[-1][0]
    before = max(mean for step, _, mean, _ in history if step <= 0.75 * last_step)
    step_after = [(mean, half) for step, _, mean, half in history if step > 0.75 * last_step]
    mean, half = max(step_after)
    return "rising" if mean - before > half / 1.96 else "falling" if before - mean > half / 1.96 else "flat"


def facts(results: Sequence[Result], command: str) -> str:
    """A sentence on what all numbers of the tables share, and how they are made again."""
    headers = [m.header for result in results for records in result.records.values() for m in records]

    def all_of(key: str) -> str:
        return _distinct(header[key] for header in headers)

    if not headers:
        return f"Nothing was run yet. Command: `{command}`"
    return (
        f"{all_of('dataset')}, {all_of('split')} classes, {_distinct(format(h['n_episodes'], ',') for h in headers)} "
        f"episodes a cell, {_distinct(h['spec']['n_query'] for h in headers)} queries a class, episodes of seed "
        f"{all_of('seed')}. Accuracy in %: mean over training seeds ± 95% interval over episodes (standard deviation "
        f"over training seeds). torch {_distinct(h['versions']['torch'] for h in headers)}, Python "
        f"{_distinct(h['versions']['python'] for h in headers)}. Command: `{command}`"
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    text = [list(head), ["---"] * len(head), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return "\n".join(
        f"| {' | '.join(t.ljust(width) for t, width in zip(line, widths, strict=True))} |" for line in text
    )


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
