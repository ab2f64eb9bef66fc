"""Whether an image belongs to any known class at all."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor

from fewshot.config.classifier import RefusalOptions
from fewshot.estimator.familiarity import score_as_unknown, score_known, score_left_out
from fewshot.estimator.fitting import FittedMethod
from fewshot.estimator.ranks import weigh_groups
from fewshot.estimator.thresholds import RefusalScores


@dataclass(frozen=True, eq=False)
class Rejection:
    """Images with a score below `threshold` are of no known class; see `score_known`. `scores`: what it came from."""

    threshold: float
    scores: RefusalScores

    @classmethod
    def learn(cls, fitted: FittedMethod, asked: RefusalOptions) -> Self:
        """The threshold that is asked for, from the support set alone.

        Raises:
            DataError: for fewer than three classes, and where known images are asked about and none can be left out.
        """
        scores = collect_scores(fitted)
        return cls(scores.choose_threshold(asked), scores)

    def accept(self, fitted: FittedMethod, queries: Tensor) -> np.ndarray:
        """Whether each of `queries` (n, …) is taken for one of the classes, (n,) bool."""
        return score_known(fitted, queries) >= self.threshold


def collect_scores(fitted: FittedMethod) -> RefusalScores:
    """The scores of the support that a method is fitted to; raises `DataError` for fewer than three classes."""
    labels, groups = fitted.support.labels, fitted.support.independent
    known, rows = score_left_out(fitted)
    weights = weigh_groups(labels[rows], None if groups is None else groups[rows])
    return RefusalScores(known, weights, rows, score_as_unknown(fitted), weigh_groups(labels, groups), labels)
