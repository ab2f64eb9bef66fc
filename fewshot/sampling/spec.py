"""What an episode looks like: ways, shots and queries."""

from dataclasses import dataclass
from typing import Any

from fewshot.errors import EpisodeError

Count = int | tuple[int, int]


@dataclass(frozen=True)
class EpisodeSpec:
    """What an episode looks like: classes, support and query images of each class.

    Each count is a number, or a range (low, high), both included.

    Args:
        n_way: classes; a range is drawn from anew for each episode.
        n_shot: support images of each class; a range is drawn from for each class of each episode.
        n_query: query images of each class, likewise.
        disjoint_groups: whether no group (photograph, writer, specimen) may stand on both sides of an episode.

    Raises:
        EpisodeError: for counts that no episode can have.
    """

    n_way: Count = 5
    n_shot: Count = 1
    n_query: Count = 15
    disjoint_groups: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("n_way", 2), ("n_shot", 1), ("n_query", 1)):
            low, high = bounds(getattr(self, name))
            if not lowest <= low <= high:
                raise EpisodeError(
                    f"{name} must be a number of at least {lowest} or a range (low, high), got {(low, high)}"
                )

    def as_dict(self) -> dict[str, Any]:
        """The fields as a file holds them: a range is a list."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def __str__(self) -> str:
        way, shot, query = (
            f"{low}" if low == high else f"{low}–{high}"
            for low, high in map(bounds, (self.n_way, self.n_shot, self.n_query))
        )
        groups = ", disjoint groups" if self.disjoint_groups else ""
        return f"{way}-way {shot}-shot, {query} queries a class{groups}"


def bounds(count: Count) -> tuple[int, int]:
    """(low, high) of a number or a range."""
    low, high = (count, count) if isinstance(count, int) else count
    return int(low), int(high)
