"""What a repository keeps of a run: one small file with the headers of its records and one or two bytes an episode."""

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.records import Measured, Scores

VERSION = 1  # of the files
COUNTS = {1: np.dtype("u1"), 2: np.dtype("<u2")}  # right queries of an episode, by bytes


@dataclass(frozen=True)
class Result:
    """One training, a recipe with a seed, and what it reached.

    `facts`: configuration, `stages` (what each was trained on, and its minutes), `history` (step, seconds, mean
    and half-width of each validation). `records`: for each row, by its name, the cells that were measured;
    the rows of a further test set are called `<test set>: <row>`.
    """

    recipe: str
    seed: int
    facts: dict[str, Any]
    records: dict[str, list[Measured]]

    def write(self, path: str | Path) -> None:
        """JSON; what all headers share stands there once."""
        rows = [(row, measured) for row, cells in self.records.items() for measured in cells]
        common = _common([measured.header for _, measured in rows])
        content = {
            "version": VERSION,
            "recipe": self.recipe,
            "seed": self.seed,
            **self.facts,
            "common": common,
            "records": [
                {
                    "row": row,
                    "header": {key: value for key, value in measured.header.items() if key not in common},
                    **_packed(measured, path),
                }
                for row, measured in rows
            ],
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(_readable(content) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """What `write` wrote; raises `DataError` for anything else."""
        try:
            content = json.loads(Path(path).read_text())
            if content.pop("version") != VERSION:
                raise DataError(f"{path} was written by another version of fewshot")
            common, rows = content.pop("common"), {}
            for record in content.pop("records"):
                scores = Scores(common | record["header"], _unpacked(record))
                rows.setdefault(record["row"], []).append(scores)
            return cls(content.pop("recipe"), content.pop("seed"), content, rows)
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise DataError(f"{path} does not hold the result of a run ({error!r})") from error


def read_results(folder: str | Path) -> list[Result]:
    """All results below a folder, by name and seed."""
    return sorted((Result.read(path) for path in Path(folder).glob("*.json")), key=lambda r: (r.recipe, r.seed))


def _packed(measured: Measured, path: str | Path) -> dict[str, Any]:
    spec = measured.header["spec"]
    if not isinstance(spec["n_way"], int) or not isinstance(spec["n_query"], int):
        raise DataError(f"{path}: only episodes of one number of queries can be kept as counts, got {spec}")
    n_queries = spec["n_way"] * spec["n_query"]
    right = np.rint(measured.accuracy * n_queries)
    if not np.allclose(right / n_queries, measured.accuracy, rtol=0, atol=1e-5):
        raise DataError(f"{path}: accuracies are not multiples of 1/{n_queries}")
    n_bytes = 1 if n_queries < 256 else 2
    packed = zlib.compress(right.astype(COUNTS[n_bytes]).tobytes(), 9)
    mean, half = (round(100 * value, 2) for value in measured.estimate)
    return {
        "percent": [mean, half],
        "n_queries": n_queries,
        "bytes": n_bytes,
        "right": base64.b64encode(packed).decode(),
    }


def _unpacked(record: dict[str, Any]) -> np.ndarray:
    right = np.frombuffer(zlib.decompress(base64.b64decode(record["right"])), COUNTS[record["bytes"]])
    return right / record["n_queries"]


def _common(headers: list[dict[str, Any]]) -> dict[str, Any]:
    """What all headers say alike."""
    return {key: value for key, value in headers[0].items() if all(key in h and h[key] == value for h in headers[1:])}


def _readable(content: dict[str, Any]) -> str:
    """JSON with a line for each key and each record: small, and kind to version control."""
    lines = []
    for key, value in content.items():
        if key == "records":
            records = ",\n".join(f"    {json.dumps(record)}" for record in value)
            lines.append(f'  "records": [\n{records}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}"
