"""Compares published numbers with ours."""

import re
from collections.abc import Mapping, Sequence
from math import hypot
from pathlib import Path
from typing import Any

from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError
from fewshot.evaluation.statistics import Estimate
from fewshot.reproduction.tables.accuracies import NO_CELL, NOT_RUN, Row, format_markdown, format_ours, shorten

Published = Mapping[str, Mapping[str, Mapping[str, Any]]]
KINDS = ("paper", "re-run")
WORDS = {"source", "note"}  # keys of an entry that are no cells
BELOW = "below"
CELL = re.compile(r"\d+w\d+s")
WRITTEN = re.compile(r"(?P<mean>\d+(\.\d+)?)( ± (?P<half>\d+(\.\d+)?))?\??")


def read(path: str | Path) -> Published:
    """Read published numbers: for each row, under "paper" and "re-run", a `source` and percentages by cell (`5w1s`).

    Without the file there are none. A number may have its 95% interval ("98.4 ± 0.7"); one that ends with "?" was not
    checked at its source. A `note` names differences besides the method, such as another network, and is shown with
    every comparison of these numbers. Raises `ConfigError` for a file of another form.
    """
    if not Path(path).exists():
        return {}
    published = read_options(Path(path), may_be_empty=True)
    for row, kinds in _check_mapping(published, f"{path}").items():
        for kind, numbers in _check_mapping(kinds, f"{path}: {row}").items():
            where = f"{path}: {row}: {kind}"
            if kind not in KINDS or not _check_mapping(numbers, where).get("source"):
                raise ConfigError(f"{where} must be {' or '.join(KINDS)}, and name its source")
            if not isinstance(numbers.get("note", "none"), str):
                raise ConfigError(f"{where}: the note must be text, got {numbers['note']!r}")
            for cell, number in numbers.items():
                if cell not in WORDS and not (CELL.fullmatch(str(cell)) and _is_percentage(number)):
                    raise ConfigError(f'{where}: {cell}: {number!r} is not as 98.8, 98.8 ± 0.2 or "98.8?"')
    return published


def _check_mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must hold names with a value each, got {value!r}")
    return value


def _is_percentage(number: Any) -> bool:
    known = isinstance(number, int | float | str) and not isinstance(number, bool) and WRITTEN.fullmatch(str(number))
    return bool(known) and 0 < parse_number(str(number)).mean <= 1


def format_against(rows: Sequence[Row], cells: Sequence[str], published: Published) -> str:
    """Format a line for each row and cell with a published number: ours, paper and re-run, and the differences.

    The verdict compares with the re-run, or with the paper if there is none: "passed" by the mean, "within the
    interval" (ours and, if printed, theirs, combined as of independent numbers), or "below". It uses the numbers as
    printed, with two decimals. The note of these numbers, if any, follows.
    """
    lines = []
    for row in (row for row in rows if row.name in published):
        for cell in cells:
            numbers = {
                kind: str(entry[shorten(cell)]) for kind, entry in published[row.name].items() if shorten(cell) in entry
            }
            if numbers and cell in row.cells:
                ran = bool(row.cells[cell])
                estimate = row.estimate(cell) if ran else None
                judged = "re-run" if "re-run" in numbers else "paper"
                paper, rerun = (_compare(numbers.get(kind), estimate) for kind in ("paper", "re-run"))
                verdict = _judge(estimate, parse_number(numbers[judged])) if estimate else NOT_RUN
                verdict += ", still rising" if verdict == BELOW and cell in row.still_rising else ""
                note = published[row.name][judged].get("note")
                verdict += f"; {note}" if note and estimate else ""
                lines.append([row.title, shorten(cell), format_ours(row, cell), *paper, *rerun, verdict])
    head = ["method", "cell", "ours", "paper", "ours − paper", "best re-run", "ours − re-run", "verdict"]
    return format_markdown(head, lines) if lines else ""


def format_sources(published: Published) -> str:
    """Format the sources of the published numbers, and what the verdict compares."""
    entries = [(row, kind, entry) for row, kinds in published.items() for kind, entry in kinds.items()]
    stand = "; ".join(f"**{row}**, {kind}: {entry['source']}" for row, kind, entry in entries)
    unchecked = any("?" in str(entry[cell]) for *_, entry in entries for cell in entry.keys() - WORDS)
    memory = ". Numbers with ? are quoted from memory and were not checked at their source" if unchecked else ""
    return (
        f"{stand}{memory}. The verdict is on the re-run, or the paper where there is none; within the interval: ours "
        "and, where it is printed, theirs, combined; still rising: validation accuracy was when training ended"
    )


def parse_number(text: str) -> Estimate:
    """Parse mean and half-width of the interval as fractions; a half-width that is not printed is 0."""
    written = WRITTEN.fullmatch(text)
    return Estimate(float(written["mean"]) / 100, float(written["half"] or 0) / 100)


def _compare(number: str | None, estimate: Estimate | None) -> list[str]:
    if number is None:
        return [NO_CELL, NO_CELL]
    if estimate is None:
        return [number, NO_CELL]
    difference = round(100 * (estimate.mean - parse_number(number).mean), 2) + 0.0  # turns −0.0 into 0.0
    return [number, f"{difference:+.2f}".replace("-", "−")]


def _judge(ours: Estimate, theirs: Estimate) -> str:
    (mean, half), (target, their_half) = ([round(100 * value, 2) for value in estimate] for estimate in (ours, theirs))
    reached = round(mean + hypot(half, their_half), 2)
    return "passed" if mean >= target else "within the interval" if reached >= target else BELOW
