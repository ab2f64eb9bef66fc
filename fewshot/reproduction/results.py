"""Stores the result of a run in one small file: headers of its records, and the answers of each episode."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader, read_header
from fewshot.evaluation.records import Measured, Scores
from fewshot.runtime.files import format_json_by_line, read_json, write_whole

VERSION = 1  # of the file format
COUNTS = {1: np.dtype("u1"), 2: np.dtype("<u2")}  # types of the number of right queries, by their bytes
FRACTION = np.dtype("<f8")  # type of accuracies, if the number of queries varies between episodes


@dataclass(frozen=True)
class Result:
    """The result of one run: a recipe with a seed.

    `facts`: configuration, `stages` (on how many images or episodes each was trained, and its minutes), `history`
    (step, seconds, mean and half-width of each validation). `records`: the measured cells of each row, by `name_row`.
    """

    recipe: str
    seed: int
    facts: dict[str, Any]
    records: dict[str, list[Measured]]

    def write(self, path: str | Path) -> None:
        """Write JSON, in which fields that all headers share occur once.

        Raises `DataError` if an accuracy is no multiple of 1 / number of queries (if that is the same in all episodes),
        and for more queries than two bytes count.
        """
        path = Path(path)
        rows = [(row, measured) for row, cells in self.records.items() for measured in cells]
        common = _find_common([measured.header.as_dict() for _, measured in rows])
        content = {
            "version": VERSION,
            "recipe": self.recipe,
            "seed": self.seed,
            **self.facts,
            "common": common,
            "records": [
                {
                    "row": row,
                    "header": {key: value for key, value in measured.header.as_dict().items() if key not in common},
                    **_pack(measured, path),
                }
                for row, measured in rows
            ],
        }
        write_whole(path, format_json_by_line(content, "records"))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; raises `DataError` for anything else."""
        try:
            content = read_json(Path(path), "result of a run")
            if content.pop("version") != VERSION:
                raise DataError(f"{path} was written by another version of fewshot")
            common, rows = content.pop("common"), {}
            for record in content.pop("records"):
                header = read_header(common | record["header"])
                rows.setdefault(record["row"], []).append(Scores(header, _unpack(record, header)))
            return cls(content.pop("recipe"), content.pop("seed"), content, rows)
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise DataError(f"{path} does not hold the result of a run ({repr(error)[:300]})") from error


def name_row(test_set: str, row: str) -> str:
    """Name the records of a row in a result; `test_set`: a name in `test_also`, or ""."""
    return f"{test_set}: {row}" if test_set else row


def describe_curve(history: Sequence[Sequence[float]]) -> str:
    """Describe whether validation accuracy was still rising when training ended.

    It was rising if the best accuracy of the last quarter of training exceeds the best one before by more than a
    standard error.
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


def read_results(folder: str | Path) -> list[Result]:
    """Read all results (*.json) in a folder, by name and seed; raises `DataError` if two files hold the same run."""
    found: dict[tuple[str, int], tuple[Path, Result]] = {}
    for path in sorted(Path(folder).glob("*.json")):
        result = Result.read(path)
        other, _ = found.setdefault((result.recipe, result.seed), (path, result))
        if other != path:
            raise DataError(f"{other} and {path} both hold {result.recipe}, seed {result.seed}: remove one of them")
    return [result for _, (_, result) in sorted(found.items())]


def _pack(measured: Measured, path: Path) -> dict[str, Any]:
    spec = measured.header.spec
    mean, half = (round(100 * value, 2) for value in measured.estimate)
    n_queries = _count_queries(spec)
    if n_queries is None:
        return {"percent": [mean, half], "accuracy": _encode(measured.accuracy.astype(FRACTION))}
    if n_queries >= 1 << 16:
        raise DataError(f"{path}: only episodes of fewer than 65,536 queries can be kept, got {spec}")
    right = np.rint(measured.accuracy * n_queries)
    fractions = np.isclose(right / n_queries, measured.accuracy, rtol=0, atol=0.01 / n_queries)
    if not (fractions & (right >= 0) & (right <= n_queries)).all():
        raise DataError(f"{path}: {measured.cell}: accuracies are not k / {n_queries}, with k right queries")
    n_bytes = 1 if n_queries < 256 else 2
    return {
        "percent": [mean, half],
        "n_queries": n_queries,
        "bytes": n_bytes,
        "right": _encode(right.astype(COUNTS[n_bytes])),
    }


def _unpack(record: dict[str, Any], header: RecordHeader) -> np.ndarray:
    n_queries, n_episodes = _count_queries(header.spec), header.n_episodes
    if n_queries is None:
        accuracy = _decode(record["accuracy"], FRACTION)
        if len(accuracy) != n_episodes or not ((accuracy >= 0) & (accuracy <= 1)).all():
            raise ValueError(f"{record['row']}: the accuracies are not those of {n_episodes} episodes")
        return accuracy
    right = _decode(record["right"], COUNTS[record["bytes"]])
    if record["n_queries"] != n_queries or len(right) != n_episodes or right.max() > n_queries:
        raise ValueError(f"{record['row']}: the counts are not those of {n_episodes} episodes of {n_queries} queries")
    return right / n_queries


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


def _decode(text: str, kind: np.dtype) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


def _count_queries(spec: dict[str, Any]) -> int | None:
    """The number of queries of an episode; None if it varies."""
    n_way, n_query = spec["n_way"], spec["n_query"]
    return n_way * n_query if isinstance(n_way, int) and isinstance(n_query, int) else None


def _find_common(headers: list[dict[str, Any]]) -> dict[str, Any]:
    """Find the fields that are equal in all headers, compared as JSON text, so that 1, 1.0 and true differ."""
    texts = [{key: json.dumps(value) for key, value in header.items()} for header in headers]
    shared = set(texts[0].items()).intersection(*(text.items() for text in texts[1:])) if texts else ()
    return {key: json.loads(text) for key, text in sorted(shared)}
