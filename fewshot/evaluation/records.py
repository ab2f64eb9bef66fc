"""Records of an evaluation: a header that describes the measurement, and one record for each episode."""

import json
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader, read_header
from fewshot.evaluation.statistics import Estimate, compute_mean_interval
from fewshot.runtime.files import write_whole


class EpisodeRecord(NamedTuple):
    """One episode. `accuracy`: fraction of its queries; `loss`: nats per query; `seconds`: excluding the embedding.

    `base_before`, `base_after`: shares of right base classes before and after adapting; None where nobody asked.
    """

    index: int
    accuracy: float
    loss: float
    n_way: int
    n_support: int
    seed: int
    seconds: float
    base_before: float | None = None
    base_after: float | None = None

    def as_dict(self) -> dict[str, float]:
        """Convert to a dictionary for a file, without the fields that are None."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Measured(ABC):
    """Accuracies of episodes, with a header that names data, weights, commit and command."""

    header: RecordHeader
    accuracy: np.ndarray  # fraction of correctly classified queries of each episode, (n_episodes,)

    @property
    def estimate(self) -> Estimate:
        """Mean accuracy with its 95% interval over episodes."""
        return compute_mean_interval(self.accuracy)

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return self.estimate.mean

    @property
    def half_width_95(self) -> float:
        """Half the width of the mean's 95% interval over episodes."""
        return self.estimate.half_width_95

    @property
    def mark(self) -> str:
        """The mark beside the row's name in tables, ` (11 of 20 classes seen in training)`, or an empty string."""
        mark = self.header.seen_mark  # None in records of early versions
        return f" ({mark})" if mark else ""

    @property
    def cell(self) -> str:
        """Ways and shots of the episodes: `5-way 1-shot`."""
        return name_cell(self.header.spec)


@dataclass(frozen=True)
class Scores(Measured):
    """Measured accuracies (n_episodes,) without the other records of each episode."""

    header: RecordHeader
    accuracy: np.ndarray


@dataclass(frozen=True)
class Records(Measured):
    """A record of each episode: everything that a table needs.

    Args:
        header: what was measured, on what, and by what (data, weights, commit, command).
        episodes: one record for each episode, in order.
    """

    header: RecordHeader
    episodes: list[EpisodeRecord]

    @property
    def accuracy(self) -> np.ndarray:
        """Fraction of right queries of each episode, (n_episodes,)."""
        return np.array([e.accuracy for e in self.episodes])

    @property
    def base_shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Shares of right base classes before and after adapting, (n_episodes,) each; NaN where nobody asked."""
        before, after = np.array([[e.base_before, e.base_after] for e in self.episodes], np.float64).T
        return before, after

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats."""
        return float(np.mean([e.loss for e in self.episodes]))

    def add_facts(self, **facts: Any) -> Self:
        """Copy the records, with further fields of the header that the run knows and the evaluator does not."""
        return replace(self, header=replace(self.header, **facts))

    def write(self, path: str | Path) -> None:
        """Write JSON lines: the header, then one line per episode."""
        lines = [self.header.as_dict(), *(e.as_dict() for e in self.episodes)]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; raises `DataError` if the file is incomplete or holds something else."""
        try:
            text = Path(path).read_bytes().decode()
            header, *rows = map(json.loads, text.splitlines())
            records = cls(read_header(header), [EpisodeRecord(**row) for row in rows])
            values = [value for episode in records.episodes for value in episode.as_dict().values()]
            if not all(isinstance(value, int | float) for value in values):
                raise TypeError("an episode has something that is no number")
            shares = [share for e in records.episodes for share in (e.accuracy, e.base_before or 0, e.base_after or 0)]
            if not all(0 <= share <= 1 for share in shares):
                raise ValueError("an episode has an accuracy that is no fraction")
        except (ValueError, TypeError, RecursionError) as error:
            what = " ".join(str(error).split())[:300]
            raise DataError(f"{path} does not hold records of an evaluation ({what})") from error
        if len(rows) != records.header.n_episodes:
            raise DataError(f"{path} holds {len(rows)} of {records.header.n_episodes} episodes: it is cut short")
        return records


def name_cell(spec: Mapping[str, Any]) -> str:
    """Name the ways and shots of an `EpisodeSpec`, given as a dictionary: `5-way 1-shot`."""
    return f"{_count(spec['n_way'])}-way {_count(spec['n_shot'])}-shot"


def _count(value: int | list[int]) -> str:
    return str(value) if isinstance(value, int) else "–".join(map(str, value))
