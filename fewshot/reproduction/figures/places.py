"""Where names of lines stand: apart from each other and, inside the axes, from the lines.

All places are shares of the axes' width and height.
"""

from collections.abc import Sequence

import numpy as np

BESIDE = 0.025  # from the end of a line to a name beside it
TRACED = 100  # points between two marks of a line
FARTHEST = 6  # half names' heights that a name beside its line may stand above or below its end


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Choose ascending places within [low, high], at least `gap` apart and as near as possible to those `wanted`.

    `wanted` ascends. Least squares: for places minus gap * rank this is isotonic regression, solved by pooling
    adjacent violators. If there is no room for `gap`, the places are as far apart as possible.
    """
    n = len(wanted)
    gap = min(gap, (high - low) / (n - 1)) if n > 1 else gap
    pools: list[list[float]] = []  # sum and number of each pool
    for rank, place in enumerate(wanted):
        pools.append([place - gap * rank, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    levels = [total / count for total, count in pools for _ in range(int(count))]
    return [min(max(level, low), high - gap * (n - 1)) + gap * rank for rank, level in enumerate(levels)]


def trace(path: np.ndarray) -> np.ndarray:
    """List points along a broken line through `path`, (n, 2), close enough to see whether something covers it."""
    if len(path) == 1:
        return path
    share = np.linspace(0, 1, TRACED)[:, None, None]
    return (path[:-1] + share * (path[1:] - path[:-1])).reshape(-1, 2)


def cover(place: tuple[float, float], size: np.ndarray, side: int) -> np.ndarray:
    """The low and high corner, (2, 2), of a name of `size` beside `place`: at its right (1) or at its left (-1)."""
    x, y = place
    near, far = x + side * BESIDE, x + side * (BESIDE + size[0])
    return np.array([[min(near, far), y - size[1] / 2], [max(near, far), y + size[1] / 2]])


def place_beside(end: tuple[float, float], size: np.ndarray, drawn: np.ndarray, taken: np.ndarray) -> tuple[int, float]:
    """Choose the side and the height of a name of `size` beside `end`, where it covers least of what is drawn.

    Of places that cover equally little it is the nearest to `end`, at the left before the right.

    Args:
        end: of the line that is named.
        size: of the name, (width, height).
        drawn: points of all lines, (n, 2).
        taken: corners of the names of higher ends, (m, 2, 2); of those above or below it, the name stands below all
            unless there is no such place, so that leaders do not cross.

    Returns:
        -1 for the left or 1 for the right, and the height of the middle of the name.
    """
    choices = []
    for step in range(-FARTHEST, FARTHEST + 1):
        for side in (-1, 1):
            at = end[1] + step * size[1] / 2
            low, high = cover((end[0], at), size, side)
            outside = bool((low < 0).any() or (high > 1).any())
            below = (taken[:, 0, 1] >= high[1] - 1e-9) | (taken[:, 1, 0] <= low[0]) | (taken[:, 0, 0] >= high[0])
            covered = int(((low < drawn) & (drawn < high)).all(1).sum())
            choices.append((outside, not below.all(), covered, abs(step), side, at))
    *_, side, at = min(choices)
    return side, at
