"""Thresholds on how well an image fits any class, from the scores of a support set.

numpy only, since predictors use it too.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np

from fewshot.errors import DataError

N_BISECTIONS = 60
# Chosen on world coins' validation countries, CIFAR-FS's validation classes and 21 classes of GTSRB, see docs/log.md.
KNOWN_SHARE = 0.5  # of the level and spread of unknown scores, that is guessed from known ones
SMALLEST_RATE = 1e-3  # of accepted unknown images that a few support images can tell of
GAP = 0.5  # by how many of their deviations known scores lie higher, for each doubling of the images a class
SPREAD = 0.6  # deviation of unknown scores, of that of known ones
LOWEST = 1.0  # deviations below the median: lower scores count as such
LEAST_GROUPS = 3  # of each class: with fewer, known scores come from fits to one image a class


class AskedRefusals(Protocol):
    """In which of three ways a threshold is asked for; see `fewshot.config.classifier.RefusalOptions`."""

    @property
    def false_accept_rate(self) -> float | None:
        """Share of photographs of other classes that may be accepted."""

    @property
    def false_reject_rate(self) -> float | None:
        """Share of photographs of the known classes that may be refused."""

    @property
    def balanced(self) -> bool:
        """Whether both mistakes count alike."""


@dataclass(frozen=True, eq=False)
class RefusalScores:
    """Scores of the support's images (`score_known`) that tell what a threshold costs; see `weigh_groups` for weights.

    Attributes:
        known: (m,), of images left out by group; `known_weights` (m,), `rows` (m,): which images these are.
        unknown: (n,), of each image where its class is taken for unknown; `unknown_weights` (n,).
        labels: (n,), of all images.
    """

    known: np.ndarray
    known_weights: np.ndarray
    rows: np.ndarray
    unknown: np.ndarray
    unknown_weights: np.ndarray
    labels: np.ndarray

    def choose_threshold(self, asked: AskedRefusals) -> float:
        """Choose the lowest score to accept, in the one of the three ways that is asked for.

        Raises:
            DataError: where known images are asked about and no image can be left out.
        """
        if asked.false_accept_rate is not None:
            return self._find_unknown_quantile(asked.false_accept_rate)
        if not len(self.known):
            raise DataError(
                "one photograph (or group) a class tells nothing of how many known ones would be refused: ask for a "
                "false_accept_rate, or take more photographs"
            )
        if asked.false_reject_rate is not None:
            return find_known_bound(self.known, self.known_weights, asked.false_reject_rate)
        known, spread = weigh_moments(self.known, self.known_weights)

        def excess(rate: float) -> float:  # of refused known images over accepted unknown ones
            return NormalDist(known, spread).cdf(self._find_unknown_quantile(rate)) - rate

        low, high = 1e-9, 1 - 1e-9  # `excess` falls with the rate
        for _ in range(N_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        return self._find_unknown_quantile((low + high) / 2)

    def _find_unknown_quantile(self, rate: float) -> float:
        """Find the score that a share `rate` of images of further classes exceeds.

        Unknown scores of a few classes that look alike say little of classes to come: their own level and spread are
        averaged with what known scores lead to expect (the level only upwards). A further score is predicted from
        those of n classes by Student's t with n − 1 degrees of freedom (Geisser, Predictive Inference, 1993). A class
        that is taken for unknown can be taken for one class less than a further one.
        """
        if rate <= 0:  # stricter than any other rate, and than all scores that were seen
            return max(self._find_unknown_quantile(SMALLEST_RATE), float(np.nextafter(self.unknown.max(), np.inf)))
        n_classes = len(np.unique(self.labels))
        level, spread = weigh_moments(self.unknown, self.unknown_weights)
        n_groups = min(self.unknown_weights[self.labels == label].sum() for label in np.unique(self.labels))
        if n_groups >= LEAST_GROUPS - 1e-9 and len(self.known):
            known, known_spread = weigh_moments(self.known, self.known_weights)
            n_shots = self.known_weights.sum() / n_classes
            expected = known - GAP * np.log2(n_shots) * known_spread
            level += KNOWN_SHARE * max(expected - level, 0.0)
            spread = np.sqrt((1 - KNOWN_SHARE) * spread**2 + KNOWN_SHARE * (SPREAD * known_spread) ** 2)
        of_fewer = 1 - (1 - rate) ** ((n_classes - 1) / n_classes)
        return float(level + find_student_quantile(of_fewer, n_classes - 1) * spread * np.sqrt(1 + 1 / n_classes))


def find_known_bound(scores: np.ndarray, weights: np.ndarray, false_reject_rate: float) -> float:
    """Find the highest threshold at which a further image of the known classes is refused with at most this chance.

    The rank that split-conformal prediction takes, Vovk et al. 2005: of n + 1 scores that may come in any order the
    last is among the k lowest with a chance of k / (n + 1). Where that is too much for k = 1, nothing is refused.

    Args:
        scores: (m,), of known images that were left out.
        weights: (m,), see `weigh_groups`; they sum to n.
        false_reject_rate: the chance.
    """
    order = np.argsort(scores)
    below = weights[order].cumsum()
    rank = int(np.floor(false_reject_rate * (round(weights.sum()) + 1) + 1e-9))
    return float(scores[order][np.searchsorted(below, rank - 1e-9)]) if rank else -np.inf


def weigh_moments(scores: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Compute mean and standard deviation (above 0) of weighted scores (n,), without a long tail below.

    Thresholds lie above most unknown scores. Log densities have a long tail below, and how far the lowest ones lie says
    nothing of the highest: those further below the median than `LOWEST` times as far as the 84% quantile lies above it
    (a deviation of a normal distribution) count as so far.
    """
    order = np.argsort(scores)
    places = (weights[order].cumsum() - weights[order] / 2) / weights.sum()
    median, above = np.interp([0.5, NormalDist().cdf(1)], places, scores[order])
    scores = np.maximum(scores, median - LOWEST * (above - median))
    mean = float(np.average(scores, weights=weights))
    variance = float(np.average((scores - mean) ** 2, weights=weights))
    return mean, max(float(np.sqrt(variance)), 1e-6 * max(abs(mean), 1.0))


def find_student_quantile(rate: float, n_degrees: int) -> float:
    """Find the value that Student's t with `n_degrees` degrees of freedom exceeds with the chance `rate`, in (0, 1).

    By bisection of the finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4,
    since exported predictors have no scipy.
    """
    odd = n_degrees % 2
    terms = np.arange(1 + odd, n_degrees - 1, 2)  # ratios of successive terms, (terms) / (terms + 1)
    weights = np.concatenate([[1.0], (terms / (terms + 1)).cumprod()])

    def within(angle: float) -> float:  # chance of |t| < sqrt(n_degrees) tan(angle)
        cosine = np.cos(angle)
        total = float((weights * cosine ** (2 * np.arange(len(weights)) + odd)).sum() * np.sin(angle))
        return 2 / np.pi * (angle + (total if n_degrees > 1 else 0.0)) if odd else total

    low, high = 0.0, np.pi / 2
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < abs(1 - 2 * rate) else (low, middle)
    return float(np.copysign(np.sqrt(n_degrees) * np.tan(low), 0.5 - rate))
