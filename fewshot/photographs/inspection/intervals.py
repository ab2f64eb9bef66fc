"""95% intervals of an accuracy, also if the images of a group are not independent."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from fewshot.runtime.counts import format_count

Z95 = float(ndtri(0.975))


class Proportion(NamedTuple):
    """A fraction with its 95% interval, estimated from `n_images` images of `n_groups` groups."""

    mean: float
    low: float
    high: float
    n_images: int
    n_groups: int


def describe_proportion(p: Proportion, grouped: bool) -> str:
    """Format as `90.0% (95% interval 77.0% to 96.0%, 40 photographs of 10 groups)`.

    Groups are named only if the user gave groups (`grouped`). Otherwise they are sets of copies, and their number is
    that of different photographs.
    """
    groups = "" if p.n_groups == p.n_images else f", {p.n_groups:,} of them different"
    if grouped:
        groups = f" of {format_count(p.n_groups, 'group')}"
    count = format_count(p.n_images, "photograph")
    return f"{p.mean:.1%} (95% interval {p.low:.1%} to {p.high:.1%}, {count}{groups})"


def compute_wilson_interval(mean: float, n: float) -> tuple[float, float]:
    """Compute Wilson's 95% score interval of a fraction `mean` of `n` independent trials; `n` need not be whole.

    It stays within 0..1, and its width is positive also for fractions 0 and 1. Brown, Cai, DasGupta, Interval
    Estimation for a Binomial Proportion, Statistical Science 16, 2001, https://doi.org/10.1214/ss/1009213286.
    """
    z2 = Z95**2
    centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(max(0.0, mean * (1 - mean)) / n + z2 / (4 * n**2))
    low, high = float(centre - half), float(centre + half)
    return 0.0 if mean == 0 else max(0.0, low), 1.0 if mean == 1 else min(1.0, high)


def estimate_proportion(right: np.ndarray, asked: np.ndarray, groups: np.ndarray | None = None) -> Proportion:
    """Estimate the fraction `sum(right) / sum(asked)` with a 95% interval that takes groups into account.

    Without `groups`, images are independent: Wilson's interval. With groups, Wilson's interval for the effective
    number of images, that is the number of independent images that would give the variance observed between groups.
    It is at most n_images and, to account for few groups, multiplied by the squared ratio of the normal to Student's
    quantile: Korn and Graubard, Confidence Intervals for Proportions with Small Expected
    Number of Positive Counts Estimated from Survey Data, Survey Methodology 24, 1998; with Wilson's
    interval: Franco, Little, Louis, Slud, J. Survey Statistics and Methodology 7, 2019,
    https://doi.org/10.1093/jssam/smy019. If all answers are right, or all wrong, the variance between groups is
    unknown and each group counts as one image; a bootstrap over groups would give an interval of no width.

    Args:
        right: how often the answer was right, for each image (n_images,).
        asked: how often each image was a query (n_images,); images never asked do not count.
        groups: the group of each image (n_images,), or None.

    Returns:
        The fraction with its 95% interval.
    """
    seen = asked > 0
    right, asked = right[seen].astype(np.float64), asked[seen].astype(np.float64)
    n_images = len(asked)
    if n_images == 0:
        raise ValueError("no image was a query")
    mean = float(right.sum() / asked.sum())
    if groups is None:
        return Proportion(mean, *compute_wilson_interval(mean, n_images), n_images, n_images)
    group = np.unique(groups[seen], return_inverse=True)[1]
    n_groups = int(group.max()) + 1
    if n_groups == 1:
        return Proportion(mean, 0.0, 1.0, n_images, 1)
    residuals = np.bincount(group, right - mean * asked)  # (n_groups,), for the linearised ratio estimator
    variance = n_groups / (n_groups - 1) * float(np.square(residuals).sum()) / asked.sum() ** 2
    spread = mean * (1 - mean)
    effective = min(n_images, spread / variance) if spread > 0 and variance > 0 else float(n_groups)
    effective *= (Z95 / float(stdtrit(n_groups - 1, 0.975))) ** 2
    return Proportion(mean, *compute_wilson_interval(mean, effective), n_images, n_groups)
