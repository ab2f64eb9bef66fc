"""Stores the accuracy of a run's weights at many shots and ways in a small file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fewshot.errors import DataError
from fewshot.runtime.files import format_json_by_line, read_json, write_whole

VERSION = 1  # of the files
SHOTS = (1, 2, 3, 4, 5, 7, 10, 15)  # of 5-way episodes
WAYS = (2, 3, 5, 7, 10, 15, 20)  # of 1-shot episodes
SHOTS_N_WAY, WAYS_N_SHOT = 5, 1
N_QUERY = 5  # queries a class: with 15 shots they take all 20 drawings of an Omniglot character
CELLS = tuple(dict.fromkeys([*((SHOTS_N_WAY, shot) for shot in SHOTS), *((way, WAYS_N_SHOT) for way in WAYS)]))
SAME = (
    "method", "dataset", "split", "data_fingerprint", "weights", "precision", "transductive", "seed", "n_episodes",
    "n_query",
)  # fmt: skip
"""fields that must be equal for one measurement to replace another"""


@dataclass(frozen=True)
class Point:
    """Mean accuracy of one kind of episode with its 95% interval over episodes, and the commit that measured it."""

    n_way: int
    n_shot: int
    mean: float
    half_width_95: float
    commit: str

    @property
    def cell(self) -> tuple[int, int]:
        """Way and shot."""
        return self.n_way, self.n_shot


@dataclass(frozen=True)
class Curves:
    """The points of one run. `header`: what was measured, on which data; `missing`: cells without episodes, and why."""

    recipe: str
    seed: int
    header: dict[str, Any]
    points: list[Point]
    missing: dict[str, str]

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.recipe}, seed {self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """The fields in which another measurement must agree to replace it."""
        return {key: self.header.get(key) for key in SAME}

    def write(self, path: str | Path) -> None:
        """Write JSON with a line for each point."""
        content = {"version": VERSION, **vars(self), "points": [asdict(point) for point in self.points]}
        write_whole(path, format_json_by_line(content, "points"))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; raises `DataError` for anything else."""
        try:
            content = read_json(Path(path), "file of curves")
            if content.pop("version") != VERSION:
                raise DataError(f"{path} was written by another version of fewshot")
            return cls(points=[Point(**point) for point in content.pop("points")], **content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} does not hold the curves of a run ({error!r})") from error


def find_curves_file(results: Path, recipe: str, seed: int) -> Path:
    """The file for the curves of a run, in the folder of its data set's results."""
    return results / "curves" / f"{recipe}-seed{seed}.json"


def read_curves(results: Path) -> list[Curves]:
    """Read all curves in the folder of a data set's results, by name and seed."""
    return sorted(map(Curves.read, (results / "curves").glob("*.json")), key=lambda c: (c.recipe, c.seed))
