"""What a batch of episodes tells a method besides images and support labels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EpisodeContext:
    """What a batch of B episodes tells a method besides images and support labels; most methods need none of it.

    Args:
        query_mask: (B, n_query) bool, the queries that take part; the others are padding. None: all take part.
    """

    query_mask: Tensor | None = None


def get_query_mask(context: EpisodeContext | None) -> Tensor | None:
    """Which queries take part, (B, n_query) bool, or None where all do."""
    return None if context is None or context.query_mask is None else drop_full_mask(context.query_mask)


def drop_full_mask(mask: Tensor) -> Tensor | None:
    """`mask`, or None where it is True everywhere: what is computed without a mask is computed faster."""
    return None if bool(mask.all()) else mask
