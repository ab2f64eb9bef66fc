"""Reads drift records: what was noted of each photograph, by classifier; damaged lines are counted and left out."""

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import DataError
from fewshot.estimator.drift import MEASURES, Noted
from fewshot.photographs.drift.record import FORMAT, MOST_BYTES

LARGEST_LEVEL = 10**9
LONGEST_LINE = 4 << 20  # bytes; one with a thousand photographs of a reference takes 30 kB


@dataclass(frozen=True, eq=False)
class History:
    """What one classifier was asked, in the order of time.

    Attributes:
        id: of the classifier.
        classes, unknown: its classes, and its answer for a refused photograph.
        steps: size of a step of each measure.
        left_out: what was noted of left-out photographs at fit.
        noted: of the photographs that were asked about.
        times: (n,) datetime64 in minutes, of these.
    """

    id: str
    classes: tuple[str, ...]
    unknown: str
    steps: Mapping[str, float]
    left_out: Noted
    noted: Noted
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.noted)

    def since(self, time: np.datetime64) -> "History":
        """Keep the photographs from `time` on."""
        kept = self.times >= time
        return History(
            self.id, self.classes, self.unknown, self.steps, self.left_out, self.noted.select(kept), self.times[kept]
        )


@dataclass
class _Open:
    """A classifier of which lines are being read."""

    header: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    last: int = 0  # number of its last line


def read_histories(path: str | Path) -> tuple[list[History], int]:
    """Read a drift record, with FILE.1 before it.

    Args:
        path: of the file.

    Returns:
        What each classifier was asked, the one that was asked last at the end; how many lines were left out.

    Raises:
        DataError: for a file that cannot be read, or holds no line that describes a classifier.
    """
    found: dict[str, _Open] = {}
    n_bad = 0
    older = Path(f"{path}.1")
    for number, line in enumerate(line for file in ([older] if older.exists() else []) + [Path(path)]
                                  for line in _read_lines(file)):  # fmt: skip
        parsed = _parse(line)
        if parsed is None:
            n_bad += 1
        elif "fewshot" in parsed:
            found.setdefault(parsed["id"], _Open(parsed)).last = number
        elif parsed["of"] in found and _fits(parsed, found[parsed["of"]].header):
            found[parsed["of"]].lines.append(parsed)
            found[parsed["of"]].last = number
        else:
            n_bad += 1
    if not found:
        raise DataError(f"{path} is no drift record: no line of it describes a classifier ({FORMAT})")
    return [_gather(one) for one in sorted(found.values(), key=lambda one: one.last)], n_bad


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} is no drift record: it is no regular file")
            if status.st_size > 2 * MOST_BYTES:
                raise DataError(f"{path} has {status.st_size:,} bytes, too many for a drift record")
            yield from (line for line in file.read().split(b"\n") if line)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({getattr(error, 'strerror', error)})") from error


def _parse(line: bytes) -> dict[str, Any] | None:
    """Parse a line; None for one that was cut short or is of something else."""
    try:
        said = json.loads(line) if len(line) <= LONGEST_LINE else None
        if not isinstance(said, dict):
            return None
        if "fewshot" not in said:
            datetime.strptime(said["at"], "%Y-%m-%dT%H:%MZ")
            return said if isinstance(said["of"], str) else None
        names, steps, left_out = said["classes"], said["steps"], said["left_out"]
        right = said["fewshot"] == FORMAT and isinstance(said["id"], str) and isinstance(said["unknown"], str)
        right = right and len(names) > 1 and all(isinstance(name, str) for name in names)
        right = (
            right and set(steps) <= set(MEASURES) and all(isinstance(s, int | float) and s > 0 for s in steps.values())
        )
        return said if right and _fits(left_out, said) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _fits(line: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a line has a whole number of each kind for each of its photographs."""
    keys = {"class", *header["steps"], *(["refused"] if "refused" in header["left_out"] else [])}
    if set(line) - {"of", "at"} != keys or not all(isinstance(line[key], list) for key in keys):
        return False
    most = {"class": len(header["classes"]) - 1, "refused": 1}
    n = len(line["class"])
    return all(
        len(line[key]) == n
        and all(type(x) is int and (0 if key in most else -LARGEST_LEVEL) <= x <= most.get(key, LARGEST_LEVEL)
                for x in line[key])
        for key in keys
    )  # fmt: skip


def _gather(one: _Open) -> History:
    header = one.header
    counts = [len(line["class"]) for line in one.lines]
    minutes = np.array([line["at"][:-1] for line in one.lines], "datetime64[m]")
    return History(
        header["id"], tuple(header["classes"]), header["unknown"], header["steps"],
        _join([header["left_out"]], header), _join(one.lines, header), np.repeat(minutes, counts),
    )  # fmt: skip


def _join(lines: Sequence[Mapping[str, Any]], header: Mapping[str, Any]) -> Noted:
    def column(key: str) -> np.ndarray:
        return np.array([x for line in lines for x in line[key]], np.int64)

    refused = column("refused").astype(bool) if "refused" in header["left_out"] else None
    return Noted(column("class"), refused, {name: column(name) for name in header["steps"]})


def parse_time(text: str) -> np.datetime64:
    """Parse a time such as 2026-11-28 or 2026-11-28T10:00, of UTC; raises `DataError` for anything else."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return np.datetime64(moment, "m")
    except (ValueError, OverflowError) as error:
        raise DataError(f"{text!r} is no time such as 2026-11-28 or 2026-11-28T10:00 ({error})") from error
