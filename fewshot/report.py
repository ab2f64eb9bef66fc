"""Tables made from records alone; accuracy becomes percent here and nowhere else."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.errors import DataError
from fewshot.records import Records
from fewshot.statistics import Estimate, paired_difference

COMPARABLE = ("dataset", "split", "data_fingerprint", "seed", "n_episodes", "spec")  # the episodes of a record


@dataclass(frozen=True)
class Row:
    """A method in a comparison: its records of each cell, what it was trained on, minutes of each stage of training."""

    name: str
    records: Sequence[Records]
    trained_on: str = "nothing"
    minutes: tuple[float, ...] = ()


def percent(estimate: Estimate) -> str:
    """`98.46 ± 0.14`."""
    return f"{100 * estimate.mean:.2f} ± {100 * estimate.half_width_95:.2f}"


def signed_percent(estimate: Estimate) -> str:
    """A difference: `+0.46 ± 0.14` or `−0.46 ± 0.14`."""
    mean = round(100 * estimate.mean, 2) + 0.0  # no minus before 0.00
    return f"{mean:+.2f} ± {100 * estimate.half_width_95:.2f}".replace("-", "−")


def table(rows: Mapping[str, Sequence[Records]]) -> str:
    """A table of accuracies in percent: a row per method, a column per cell."""
    cells = [records.cell for records in next(iter(rows.values()))]
    lines = [["", *cells], *([name, *(percent(r.estimate) for r in records)] for name, records in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join([text[0], "─" * len(text[0]), *text[1:]])


def facts(records: Records) -> str:
    """One line on what was measured: test set, episodes, seed, fingerprint, commit."""
    head = records.header
    kind = "transductive" if head["transductive"] else "inductive"
    chosen = head.get("selected_on", "unknown")
    return (
        f"{head['dataset']}/{head['split']}, {head['n_episodes']} episodes, {head['spec']['n_query']} queries a class, "
        f"seed {head['seed']}, {kind}, weights selected on {chosen}; mean ± 95% interval over episodes (%); "
        f"data {head['data_fingerprint']}, commit {head['commit']}, {head['precision']}"
    )


def comparison(rows: Sequence[Row], reference: str) -> str:
    """A Markdown table of methods measured on the same episodes, best in the first cell first.

    Beside each accuracy stands its difference to the row called `reference`, paired by episode; without
    such a row these columns are left out. Raises `DataError` where rows were measured on other episodes.
    """
    _check_same_episodes(rows)
    base = next((row for row in rows if row.name == reference), None)
    cells = [records.cell for records in rows[0].records]
    differences = [f"{cell}, minus {reference}" for cell in cells] if base else []
    head = ["method", *cells, *differences, "transductive", "weights selected on", "trained on", "minutes", "precision"]
    lines = [head, ["---"] * len(head)]
    for row in sorted(rows, key=lambda row: -row.records[0].mean):
        lines.append([row.name, *(percent(r.estimate) for r in row.records), *_differences(row, base), *_about(row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |" for line in lines
    )


def comparison_facts(rows: Sequence[Row], training_seed: int, command: str) -> str:
    """A sentence on what all rows of a comparison share, and how the table is made again."""
    headers = [records.header for row in rows for records in row.records]

    def all_of(value: Callable[[dict[str, Any]], object]) -> str:
        return _distinct(map(value, headers))

    minutes = sum(row.minutes[-1] for row in rows if row.minutes)
    return (
        f"{all_of(lambda h: h['dataset'])}/{all_of(lambda h: h['split'])}, "
        f"{all_of(lambda h: format(h['n_episodes'], ','))} episodes a cell, "
        f"{all_of(lambda h: h['spec']['n_query'])} queries a class, episodes of seed {all_of(lambda h: h['seed'])}, "
        f"training seed {training_seed}; mean ± 95% interval over episodes (%), differences paired by episode. "
        f"Minutes: training and validation, with stage 1 first; {minutes:.1f} in all. "
        f"Data {all_of(lambda h: h['data_fingerprint'])}, commit {all_of(lambda h: h['commit'])}, "
        f"torch {all_of(lambda h: h['versions']['torch'])}, Python {all_of(lambda h: h['versions']['python'])}, "
        f"{all_of(lambda h: h.get('hardware', 'hardware not recorded'))}. Command: `{command}`"
    )


def write_section(path: str | Path, name: str, heading: str, text: str) -> None:
    """Put `text` between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a file, all or nothing.

    Nothing else in the file changes; without these lines they are added at its end, under `heading`.
    Raises `DataError` where the lines are not one pair in this order.
    """
    path = Path(path).resolve()
    before = path.read_bytes().decode() if path.exists() else ""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    counts = before.count(begin), before.count(end)
    if counts == (0, 0):
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        after = f"{before}{gap}## {heading}\n\n{begin}\n{text}\n{end}\n"
    elif counts == (1, 1) and before.index(begin) < before.index(end):
        after = f"{before[: before.index(begin)]}{begin}\n{text}\n{before[before.index(end) :]}"
    else:
        raise DataError(f"{path} must hold {begin!r} and {end!r} once each, in this order, or neither")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(after.encode())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_same_episodes(rows: Sequence[Row]) -> None:
    def episodes(row: Row, key: str) -> list[object]:
        return [records.header[key] for records in row.records]

    for key in COMPARABLE:
        values = {row.name: episodes(row, key) for row in rows}
        other = [name for name, value in values.items() if value != values[rows[0].name]]
        if other:
            raise DataError(
                f"these rows cannot stand in one table: {key} is {_distinct(values[rows[0].name])} in {rows[0].name}, "
                + ", ".join(f"{_distinct(values[name])} in {name}" for name in other)
            )


def _differences(row: Row, base: Row | None) -> list[str]:
    if base is None or row is base:
        return ["–"] * len(row.records) if base else []
    pairs = zip(row.records, base.records, strict=True)
    return [signed_percent(paired_difference(mine.accuracy, theirs.accuracy)) for mine, theirs in pairs]


def _about(row: Row) -> list[str]:
    """The cells that say how a row came about."""
    headers = [records.header for records in row.records]
    return [
        _distinct("yes" if head["transductive"] else "no" for head in headers),
        _distinct(head.get("selected_on", "unknown") for head in headers),
        row.trained_on,
        " + ".join(f"{minutes:.1f}" for minutes in row.minutes) or "–",
        _distinct(head["precision"] for head in headers),
    ]


def _distinct(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
