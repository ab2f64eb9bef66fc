"""Prediction sets: the classes that an image may be of, chosen so that a promised share of sets holds the right one."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fewshot.errors import DataError
from fewshot.estimator.ranks import weigh_groups


@dataclass(frozen=True)
class SetScores:
    """Scores of left-out support images: how improbable their own class was, which decides how large sets must be.

    An image's score is 1 − the probability of its own class from a classifier that was fitted without its group. The
    images of a class that share a group are one observation together: their `weights` sum to one, since a further image
    comes from a group of its own.

    Attributes:
        scores: (m,), of left-out images.
        labels: (m,), their classes.
        weights: (m,), 1 / images of its class in its group.
    """

    scores: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> Self:
        """Score left-out images by probabilities (m, n_classes), labels (m,) and groups (m,); None: each its own."""
        scores = 1 - probabilities[np.arange(len(labels)), labels]
        return cls(scores, labels, weigh_groups(labels, groups))

    @property
    def n_observations(self) -> int:
        """Groups of each class, summed over the classes."""
        return round(self.weights.sum())

    def find_bounds(self, coverage: float, n_classes: int) -> np.ndarray:
        """Find the highest score of each class that a set allows, (n_classes,).

        The quantile of split-conformal prediction: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World,
        2005; Sadinle, Lei, Wasserman, Least Ambiguous Set-Valued Classifiers, 2019,
        https://arxiv.org/abs/1609.00451. The scores of all classes decide together, since a few images a class tell
        little of their highest ones; a class with 1 / (1 − `coverage`) − 1 groups or more (19 for 95%) decides for
        itself. Between two ranks the bound is interpolated, since the next rank would cover up to 1 / (n + 1) more:
        where scores become rarer towards high ones at least `coverage` is promised, else 1 / (n + 1) less at most.

        Args:
            coverage: share of sets that are to hold the right class, between 0 and 1.
            n_classes: number of classes.

        Raises:
            DataError: for a coverage that so few groups cannot promise; names the highest possible.
        """
        if not 0 < coverage < 1:
            raise DataError(f"coverage is a share between 0 and 1, got {coverage}")
        n = self.n_observations
        if n == 0:
            raise DataError(
                "prediction sets need photographs that can be left out: there is one photograph (or group) a class, "
                "take a second one of some class at least"
            )
        if not _is_enough(n, coverage):
            raise DataError(
                f"sets that hold the right class in {coverage:.1%} of cases need {_count_needed(coverage)} left-out "
                f"photographs (or groups) of all classes together; there are {n}, enough for coverage={n / (n + 1):.3f}"
            )
        bounds = np.full(n_classes, _find_quantile(self.scores, self.weights, coverage))
        for label in range(n_classes):
            own = self.labels == label
            if _is_enough(round(self.weights[own].sum()), coverage):
                bounds[label] = _find_quantile(self.scores[own], self.weights[own], coverage)
        return bounds


def choose_sets(probabilities: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Choose the classes in the set of each image, (n, n_classes) bool, from `probabilities` (n, n_classes).

    The likeliest class always is.
    """
    chosen = 1 - probabilities <= bounds
    chosen[np.arange(len(probabilities)), probabilities.argmax(1)] = True
    return chosen


def _is_enough(n: int, coverage: float) -> bool:
    return coverage * (n + 1) <= n + 1e-9


def _count_needed(coverage: float) -> int:
    return int(np.ceil(1 / (1 - coverage) - 1e-9)) - 1


def _find_quantile(scores: np.ndarray, weights: np.ndarray, coverage: float) -> float:
    """Find the score that `coverage` · (n + 1) of n observations do not exceed, interpolated between two of them."""
    order = np.argsort(scores)
    return float(np.interp(coverage * (round(weights.sum()) + 1), weights[order].cumsum(), scores[order]))
