"""Tables of all methods on one data set, made from stored results alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np

from fewshot.errors import DataError
from fewshot.records import Measured, Scores
from fewshot.report import percent, signed_percent
from fewshot.results import Result
from fewshot.statistics import Estimate, mean_interval, paired_difference

SAME_EPISODES = ("data_fingerprint", "split", "seed", "n_episodes", "spec")  # of records that are compared in pairs
WAYS = re.compile(r"_\d+way$")  # ends the name of a recipe that adds cells of other ways to a method's row
REFERENCE = "protonet"  # the row that the others are compared with; its runs also give the floor rows
FLOOR_ROWS = ("untrained", "raw pixels")  # what a method reaches without training
NOT_RUN, NO_CELL = "not run", "–"
OFTEN_SHARED = {
    "precision": "precision",
    "data_fingerprint": "data",
    "commit": "commit",
    "hardware": "hardware",
}  # keys of headers: what all results have in common stands in `facts`, the rest in columns of `training`


@dataclass(frozen=True)
class Row:
    """A method in the tables.

    `cells`: for each cell that its recipes measure, the records, one for each training seed. `still_rising`: cells
    whose validation curve was rising when the training of a seed ended.
    """

    name: str
    cells: dict[str, list[Measured]] = field(default_factory=dict)
    still_rising: set[str] = field(default_factory=set)

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

    Cells that are planned and not among the results are in the row, empty. Raises `DataError` where two recipes
    measure the same cell of a row, or the seeds of a recipe were measured on different episodes.
    """
    rows: dict[str, Row] = {}
    for recipe, recipe_rows in planned.items():
        for row_name, cells in recipe_rows.items():
            row = rows.setdefault(_label(recipe, row_name), Row(_label(recipe, row_name)))
            mine = [result for result in results if result.recipe == recipe]
            rising = row_name not in FLOOR_ROWS and any(curve(r.facts["history"]) == "rising" for r in mine)
            row.still_rising.update(cells if rising else ())
            for cell in cells:
                stored = [
                    measured
                    for result in mine
                    for measured in result.records.get(": ".join(filter(None, [test_set, row_name])), [])
                    if measured.cell == cell
                ]
                if cell in row.cells:
                    raise DataError(f"{row.name}, {cell}: {recipe} and a recipe before it both measure this cell")
                row.cells[cell] = stored
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
    return name if row in ("trained", "frozen") else f"{name}, {row}"


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
        ran = any(row.cells.get(cell) for cell in cells)
        about = [row.header("transductive").replace("True", "yes").replace("False", "no"), row.header("selected_on")]
        lines.append(
            [
                row.name,
                *(ours(row, cell) for cell in cells),
                *([_n_seeds(row, cells), *about] if ran else [NO_CELL] * 3),
            ]
        )
    return markdown(head, lines)


def _n_seeds(row: Row, cells: Sequence[str]) -> str:
    """`3`, or `3 / 3 / – / 1` in the order of the cells where they have different numbers of seeds."""
    numbers = [len(row.cells[cell]) if cell in row.cells else None for cell in cells]
    different = set(numbers) - {None}
    return str(*different) if len(different) == 1 else " / ".join(NO_CELL if n is None else str(n) for n in numbers)


def _rank(row: Row, cells: Sequence[str]) -> tuple[int, float]:
    """Best first in the first cell; then what has only a later one, in that; at the end what did not run."""
    for i, cell in enumerate(cells):
        if row.cells.get(cell):
            return i, -row.estimate(cell).mean
    return len(cells), 0.0


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
    return markdown([f"minus {reference}", *map(short, cells)], lines) if lines else ""


def _difference(row: Row, base: Row, cell: str) -> str:
    mine, theirs = row.cells.get(cell), base.cells.get(cell)
    if not mine or not theirs or any(mine[0].header[key] != theirs[0].header[key] for key in SAME_EPISODES):
        return NO_CELL
    return signed_percent(paired_difference(row.accuracy(cell), base.accuracy(cell)))


def training(results: Sequence[Result], recipes: Iterable[str]) -> str:
    """How each recipe was trained: seeds, what it saw, minutes of each stage, its validation curve.

    What not all results share is here too: precision, data, commit, hardware; else it stands in `facts`.
    """
    differing = [key for key in OFTEN_SHARED if _differs(key, results)]
    head = [
        "recipe", "training seeds", "trained on", "minutes a seed", "best validation", "validation at the end",
        *(OFTEN_SHARED[key] for key in differing),
    ]  # fmt: skip
    lines = []
    for recipe in recipes:
        mine = [result for result in results if result.recipe == recipe]
        about = [*_about(mine), *(_said(key, mine) for key in differing)] if mine else []
        lines.append([recipe, *(about or [NOT_RUN, *[NO_CELL] * (len(head) - 2)])])
    return markdown(head, lines)


def _about(results: Sequence[Result]) -> list[str]:
    """What `training` says of the seeds of one recipe; a stage that saw nothing is not spoken of.

    Minutes of different hardware stand apart, in the order in which the hardware is named.
    """
    stages = [[(what, minutes) for what, minutes in result.facts["stages"] if what] for result in results]
    if len({len(of_seed) for of_seed in stages}) > 1:
        raise DataError(f"{results[0].recipe}: its seeds were trained in different numbers of stages")
    minutes: dict[str, list[list[float]]] = {}  # those of each hardware are averaged
    for result, of_seed in zip(results, stages, strict=True):
        minutes.setdefault(_said("hardware", [result]), []).append([m for _, m in of_seed])
    trained = [result for result in results if result.facts["stages"][-1][0]]  # itself, not just stage 1
    return [
        ", ".join(str(result.seed) for result in results),
        _distinct(" + ".join(what for what, _ in of_seed) or "nothing" for of_seed in stages),
        "; ".join(" + ".join(f"{fmean(m):.1f}" for m in zip(*seeds, strict=True)) for seeds in minutes.values())
        or NO_CELL,
        _best_validation(trained) or NO_CELL,
        _distinct(curve(result.facts["history"]) for result in trained) or NO_CELL,
    ]


def _best_validation(results: Sequence[Result]) -> str:
    """`94.40 (20w1s)`: the best mean, averaged over seeds, and the cell that it was measured on."""
    best = [max(mean for _, _, mean, _ in result.facts["history"]) for result in results if result.facts["history"]]
    if not best:
        return ""
    config = results[0].facts["config"]
    spec = {"n_way": config["val_n_way"], "n_shot": config["val_n_shot"]}
    return f"{100 * fmean(best):.2f} ({short(Scores({'spec': spec}, np.empty(0)).cell)})"


def _said(key: str, results: Sequence[Result]) -> str:
    """What the headers of all their records say under `key`."""
    return _distinct(header.get(key, "unknown") for header in _headers(results))


def _differs(key: str, results: Sequence[Result]) -> bool:
    return len({_said(key, [result]) for result in results}) > 1


def _headers(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [measured.header for result in results for records in result.records.values() for measured in records]


def curve(history: Sequence[Sequence[float]]) -> str:
    """Whether validation was still rising when training ended, as far as its interval can tell.

    Rising: the best of the last quarter of training lies above the best before by more than a standard error.
    """
    if not history:
        return "not kept"
    last_step = history[-1][0]
    before = [mean for step, _, mean, _ in history if step <= 0.75 * last_step]
    if len(history) < 4 or not before:
        return "too few points"
    mean, half = max((mean, half) for step, _, mean, half in history if step > 0.75 * last_step)
    best_before = max(before)
    if abs(mean - best_before) <= half / 1.96:
        return "flat"
    return "rising" if mean > best_before else "falling"


def facts(results: Sequence[Result], command: str) -> str:
    """Sentences on what all numbers of the tables share, and how they are made again."""
    headers = _headers(results)
    if not headers:
        return f"Nothing was run yet. Command: `{command}`"
    dataset, split, seed = (_said(key, results) for key in ("dataset", "split", "seed"))
    shared = [f"{name} {_said(key, results)}" for key, name in OFTEN_SHARED.items() if not _differs(key, results)]
    return (
        f"{dataset}, {split} classes, {_distinct(format(h['n_episodes'], ',') for h in headers)} episodes a cell, "
        f"{_distinct(h['spec']['n_query'] for h in headers)} queries a class, episodes of seed {seed}. Accuracy in "
        "%: mean over training seeds ± 95% interval over episodes (standard deviation over training seeds). "
        f"Shared by all: {', '.join([*shared, ''])}torch {_distinct(h['versions']['torch'] for h in headers)}, "
        f"Python {_distinct(h['versions']['python'] for h in headers)}. Command: `{command}`"
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; `|` in a text is escaped."""
    text = [[t.replace("|", r"\|") for t in line] for line in (head, ["---"] * len(head), *lines)]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return "\n".join(
        f"| {' | '.join(t.ljust(width) for t, width in zip(line, widths, strict=True))} |" for line in text
    )


def _distinct(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(map(str, values)))
