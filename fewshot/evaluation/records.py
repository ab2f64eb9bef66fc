"""Records of an evaluation: a header that says what was measured, and one row per episode."""

import json
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader, read_header
from fewshot.evaluation.statistics import Estimate, mean_interval
from fewshot.runtime.files import write_whole


class EpisodeRecord(NamedTuple):
    """One episode. `accuracy`: fraction of its queries; `loss`: nats per query; `seconds`: without embedding."""

    index: int
    accuracy: float
    loss: float
    n_way: int
    n_support: int
    seed: int
    seconds: float


class Measured(ABC):
    """Accuracies of episodes; `header`: what was measured, on what, by what (data, weights, commit, command)."""

    header: RecordHeader
    accuracy: np.ndarray  # fraction of right queries of each episode, (n_episodes,)

    @property
    def estimate(self) -> Estimate:
        """Mean accuracy with its 95% interval over episodes."""
        return mean_interval(self.accuracy)

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
        """What a table says beside its name: ` (11 of 20 classes seen in training)`; else empty."""
        mark = self.header.seen_mark  # None in records of early versions
        return f" ({mark})" if mark else ""

    @property
    def cell(self) -> str:
        """What was asked of each episode: `5-way 1-shot`."""
        return name_cell(self.header.spec)


@dataclass(frozen=True)
class Scores(Measured):
    """The accuracies alone, (n_episodes,)."""

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
    def loss(self) -> float:
        """Mean negative log-likelihood in nats."""
        return float(np.mean([e.loss for e in self.episodes]))

    def add_facts(self, **facts: Any) -> Self:
        """The same records with more in their header: what a run knows of them beside the evaluation."""
        return replace(self, header=replace(self.header, **facts))

    def write(self, path: str | Path) -> None:
        """JSON lines: the header, then one line per episode."""
        lines = [self.header.as_dict(), *(e._asdict() for e in self.episodes)]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The records that `write` wrote."""
        try:
            text = Path(path).read_bytes().decode()
            header, *rows = map(json.loads, text.splitlines())
            records = cls(read_header(header), [EpisodeRecord(**row) for row in rows])
            if not all(isinstance(value, int | float) for episode in records.episodes for value in episode):
                raise TypeError("an episode has something that is no number")
            if not all(0 <= episode.accuracy <= 1 for episode in records.episodes):
                raise ValueError("an episode has an accuracy that is no fraction")
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path} does not hold records of an evaluation ({error})") from error
        if len(rows) != records.header.n_episodes:
            raise DataError(f"{path} holds {len(rows)} of {records.header.n_episodes} episodes: it is cut short")
        return records


def name_cell(spec: Mapping[str, Any]) -> str:
    """`5-way 1-shot`, of an `EpisodeSpec` as a dictionary."""
    return f"{_count(spec['n_way'])}-way {_count(spec['n_shot'])}-shot"


def _count(value: int | list[int]) -> str:
    return str(value) if isinstance(value, int) else "–".join(map(str, value))
