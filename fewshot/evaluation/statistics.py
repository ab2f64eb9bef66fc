"""Means, intervals and paired differences of per-episode accuracies (fractions, not percent)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """A mean with the half-width of its 95% interval."""

    mean: float
    half_width_95: float


def compute_mean_interval(values: Sequence[float] | np.ndarray) -> Estimate:
    """Compute the mean and 95% Student-t interval of independent values, shape (n,).

    The interval covers the sampling of episodes, not the choice of training seed. With one value the half-width is
    infinite, since its spread is unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"need a flat, non-empty list of values, got shape {values.shape}")
    if values.size == 1:
        return Estimate(float(values[0]), float("inf"))
    standard_error = values.std(ddof=1) / np.sqrt(values.size)
    return Estimate(float(values.mean()), float(stdtrit(values.size - 1, 0.975) * standard_error))


def compute_paired_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Estimate:
    """Compute the mean of `a - b` on identical episodes with its 95% interval; both of shape (n,)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired lists differ in length: {a.shape} and {b.shape}")
    return compute_mean_interval(a - b)
