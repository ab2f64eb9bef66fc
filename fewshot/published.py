"""The papers' numbers beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fewshot.errors import ConfigError
from fewshot.statistics import Estimate
from fewshot.tables import NO_CELL, NOT_RUN, Row, markdown, ours, short

Published = Mapping[str, Mapping[str, Mapping[str, Any]]]


def read(path: str | Path) -> Published:
    """Published numbers: for each row, under "paper" and "re-run", a `source` and percentages by short cell names.

    No file, no numbers. A number in quotes that ends with "?" was not checked at its source.
    """
    if not Path(path).exists():
        return {}
    published = yaml.safe_load(Path(path).read_text())
    for row, kinds in published.items():
        for kind, numbers in kinds.items():
            if kind not in ("paper", "re-run") or "source" not in numbers:
                raise ConfigError(f"{path}: {row}: {kind} must be paper or re-run, and name its source")
    return published


def against(rows: Sequence[Row], cells: Sequence[str], published: Published) -> str:
    """A line for each row and cell with a published number: ours, the number, the difference; for paper and re-run."""
    lines = []
    for row in (row for row in rows if row.name in published):
        for cell in cells:
            numbers = {
                kind: str(entry[short(cell)]) for kind, entry in published[row.name].items() if short(cell) in entry
            }
            if numbers and cell in row.cells:
                ran = bool(row.cells[cell])
                estimate = row.estimate(cell) if ran else None
                target = numbers.get("re-run", numbers.get("paper"))
                paper, rerun = (_compared(numbers.get(kind), estimate) for kind in ("paper", "re-run"))
                verdict = _verdict(estimate, _number(target)) if estimate else NOT_RUN
                lines.append([row.name, short(cell), ours(row, cell), *paper, *rerun, verdict])
    head = ["method", "cell", "ours", "paper", "ours − paper", "best re-run", "ours − re-run", "against the re-run"]
    return markdown(head, lines) if lines else ""


def sources(published: Published) -> str:
    """Where the published numbers stand."""
    return "; ".join(
        f"{row}, {kind}: {entry['source']}" for row, kinds in published.items() for kind, entry in kinds.items()
    )


def _number(text: str) -> float:
    return float(text.rstrip("?"))


def _compared(number: str | None, estimate: Estimate | None) -> list[str]:
    if number is None:
        return [NO_CELL, NO_CELL]
    return [number, NO_CELL if estimate is None else f"{100 * estimate.mean - _number(number):+.2f}".replace("-", "−")]


def _verdict(estimate: Estimate, target: float) -> str:
    mean, half = (100 * value for value in estimate)
    return "passed" if mean >= target else "within the interval" if mean + half >= target else "below"
