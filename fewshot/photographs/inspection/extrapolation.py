"""Estimates how many images an accuracy needs, by an inverse power law, and refuses where the law is too uncertain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewshot.photographs.inspection.learning_curve import ShotsCurve
from fewshot.runtime.counts import format_count

EXPONENTS = np.geomspace(0.05, 3, 200)  # candidates for c; learning curves measured so far lie well within
MAX_FACTOR = 4  # the law is evaluated up to this multiple of the largest measured number of images
MAX_WIDTH = 0.2  # of the law's 95% interval at the answer; beyond it no answer is given
MIN_POINTS = 3


@dataclass(frozen=True)
class Answer:
    """How many images a class `accuracy` needs: `n_shots`, None if unknown; `sentence` says it, or why not."""

    accuracy: float
    n_shots: int | None
    sentence: str


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """The law accuracy = a − b · k^(−c), with 95% intervals from a bootstrap over groups.

    `shots`, `mean`, `low`, `high` (n,): the law from 1 image to 4 times the largest measured number. They are empty,
    and `sentence` says why, if the curve has fewer than three points.
    """

    law: tuple[float, float, float] | None
    shots: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    answers: tuple[Answer, ...]
    sentence: str


def extrapolate(
    curve: ShotsCurve, accuracies: Sequence[float] = (0.7, 0.8, 0.9, 0.95), n_boots: int = 1000, seed: int = 0
) -> Extrapolation:
    """Fit accuracy = a − b · k^(−c), 0 <= b, 0 < c, 0 <= a <= 1, by least squares, and answer how many images to add.

    Cortes, Jackel, Solla, Vapnik, Denker, Learning Curves: Asymptotic Values and Rate of Convergence,
    NeurIPS 1993; Figueroa et al., Predicting sample size required for classification performance, BMC
    Medical Informatics 12:8, 2012, https://doi.org/10.1186/1472-6947-12-8. The bootstrap resamples groups (images,
    if there are no groups). Resampling the draws of support sets instead would ignore that they share images, and
    its interval would shrink with the number of draws. No answer is given beyond 4 times the largest measured number
    of images, if the interval of the needed number reaches beyond that, or if the law's interval at the answer is
    wider than 0.2.

    Args:
        curve: accuracy measured with k images a class.
        accuracies: fractions; for each the law says how many images a class it takes.
        n_boots: draws of the bootstrap.
        seed: of these draws.

    Returns:
        The law with its intervals, and an answer for each of `accuracies`.
    """
    most = curve.shots[-1]
    if len(curve.shots) < MIN_POINTS:
        points = format_count(len(curve.shots), "point")
        text = f"the curve has only {points}, and {MIN_POINTS} are needed to continue it: add photographs"
        empty = np.zeros(0)
        answers = tuple(_find_measured(curve, q) or Answer(q, None, f"{q:.0%}: {text}") for q in accuracies)
        return Extrapolation(None, empty, empty, empty, empty, answers, text)
    k = np.array(curve.shots, dtype=np.float64)
    means = np.array([point.mean for point in curve.points])
    law = fit_laws(k, means[None])[0]
    laws = fit_laws(k, _resample(curve, n_boots, seed))  # (n_boots, 3)
    shots = np.arange(1, MAX_FACTOR * most + 1)
    boots = _evaluate_laws(laws, shots)  # (n_boots, n)
    low, high = np.quantile(boots, [0.025, 0.975], axis=0)
    mean = _evaluate_laws(law[None], shots)[0]
    answers = tuple(_find_measured(curve, q) or _find_extrapolated(q, shots, mean, boots, laws) for q in accuracies)
    a, b, c = map(float, law)
    return Extrapolation((a, b, c), shots, mean, low, high, answers, _foretell(most, mean, low, high))


def _foretell(most: int, mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Say what twice the largest measured number of images would give."""
    at = 2 * most - 1
    if high[at] - low[at] > MAX_WIDTH:
        return "from so few photographs it cannot be told how much more of them would help"
    return (
        f"with {_format_images(2 * most)}, twice as many, about {mean[at]:.0%} right can be expected "
        f"({low[at]:.0%} to {high[at]:.0%})"
    )


def fit_laws(k: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Fit (a, b, c), (B, 3), to each curve of `accuracy` (B, n) at `k` (n,) by least squares.

    For a given c the law is linear in k^(−c). The best c is taken from a fixed list, so the fit cannot fail to
    converge.
    """
    best = np.full((len(accuracy), 4), np.inf)  # squared error, a, b, c
    for c in EXPONENTS:
        x = k**-c
        slope = ((accuracy - accuracy.mean(1, keepdims=True)) @ (x - x.mean())) / np.square(x - x.mean()).sum()
        b = np.maximum(0, -slope)
        a = accuracy.mean(1) + b * x.mean()
        above = a > 1
        b[above] = np.maximum(0, ((1 - accuracy[above]) @ x) / np.square(x).sum())
        a[above] = 1
        error = np.square(a[:, None] - b[:, None] * x - accuracy).sum(1)
        better = error < best[:, 0]
        best[better] = np.stack([error, a, b, np.full_like(a, c)], 1)[better]
    return best[:, 1:]


def _resample(curve: ShotsCurve, n_boots: int, seed: int) -> np.ndarray:
    """Compute the accuracies (n_boots, n_shots) of resampled groups, dropping resamples that contain no query."""
    n_groups = int(curve.groups.max()) + 1
    right, asked = (np.zeros((len(curve.shots), n_groups)) for _ in range(2))
    for row in range(len(curve.shots)):
        right[row] = np.bincount(curve.groups, curve.right[row], n_groups)
        asked[row] = np.bincount(curve.groups, curve.asked[row], n_groups)
    times = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_boots)
    total = times @ asked.T  # (n_boots, n_shots)
    some = (total > 0).all(1)
    return (times @ right.T)[some] / total[some]


def _evaluate_laws(laws: np.ndarray, k: np.ndarray) -> np.ndarray:
    a, b, c = (laws[:, i, None] for i in range(3))
    return a - b * k[None].astype(np.float64) ** -c


def _find_measured(curve: ShotsCurve, accuracy: float) -> Answer | None:
    for k, point in zip(curve.shots, curve.points, strict=True):
        if point.mean >= accuracy:
            text = (
                f"{accuracy:.0%}: {_format_images(k)} reached it here ({point.mean:.0%}, "
                f"{point.low:.0%} to {point.high:.0%})"
            )
            return Answer(accuracy, k, text)
    return None


def _find_extrapolated(
    accuracy: float, shots: np.ndarray, mean: np.ndarray, boots: np.ndarray, laws: np.ndarray
) -> Answer:
    limit = int(shots[-1])
    reached = mean >= accuracy
    if np.quantile(laws[:, 0], 0.975) < accuracy:
        level = float(np.median(laws[:, 0]))
        return Answer(
            accuracy,
            None,
            f"{accuracy:.0%}: not with more photographs like these; the curve levels out near {level:.0%}",
        )
    if not reached.any():
        return Answer(
            accuracy, None, f"{accuracy:.0%}: more than {limit} photographs a class, beyond what this curve can tell"
        )
    k = int(shots[reached.argmax()])
    needed = np.where((boots >= accuracy).any(1), shots[(boots >= accuracy).argmax(1)], np.inf)  # (n_boots,)
    low, high = np.quantile(needed, [0.025, 0.975], method="inverted_cdf")
    low = min(low, limit)
    width = np.subtract(*np.quantile(boots[:, k - 1], [0.975, 0.025]))
    if not np.isfinite(high) or width > MAX_WIDTH:
        upper = f"{high:.0f}" if np.isfinite(high) else f"more than {limit}"
        span = f"between {low:.0f} and {upper} photographs a class"
        text = f"{accuracy:.0%}: too uncertain to say ({span}); add photographs and look again"
        return Answer(accuracy, None, text)
    return Answer(accuracy, k, f"{accuracy:.0%}: about {_format_images(k)} ({low:.0f} to {high:.0f})")


def _format_images(k: int) -> str:
    return f"{format_count(k, 'photograph')} a class"
