"""`EpisodeContext`: what some methods need of an episode besides images and support labels."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EpisodeContext:
    """Information on a batch of B episodes besides images and support labels, which most methods do not need.

    Args:
        query_mask: (B, n_query) bool, False for padding queries, which take no part (default: all take part).
        adapted: is given the number of each episode in the batch and the network adapted to it, a function from images
            (n, C, H, W) to features (n, D); only methods with `reports_adapted` call it.
    """

    query_mask: Tensor | None = None
    adapted: Callable[[int, Callable[[Tensor], Tensor]], None] | None = None


def get_query_mask(context: EpisodeContext | None) -> Tensor | None:
    """Get the mask of the queries that take part, (B, n_query) bool; None if all do."""
    return None if context is None or context.query_mask is None else drop_full_mask(context.query_mask)


def drop_full_mask(mask: Tensor) -> Tensor | None:
    """Return `mask`, or None if it is True everywhere, since computing without a mask is faster."""
    return None if bool(mask.all()) else mask
