"""The form of an episode: ways, shots and queries."""

from dataclasses import dataclass
from typing import Any

from fewshot.errors import EpisodeError

Count = int | tuple[int, int]


@dataclass(frozen=True)
class EpisodeSpec:
    """The form of an episode: numbers of classes, and of support and query images of each class.

    Each count is a number, or an inclusive range (low, high).

    Args:
        n_way: classes; from a range each episode draws a number.
        n_shot: support images of each class; from a range each class of each episode draws a number.
        n_query: query images of each class; a range works as for `n_shot`.
        disjoint_groups: whether support and query of an episode must not share a group (photograph, writer, specimen).

    Raises:
        EpisodeError: for impossible counts.
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
    """Return (low, high) of a number or a range."""
    low, high = (count, count) if isinstance(count, int) else count
    return int(low), int(high)
