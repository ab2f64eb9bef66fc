"""Rejects images that belong to no known class."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import FittedMethod, fit
from fewshot.estimator.ranks import choose_threshold
from fewshot.estimator.support import Support

N_OTHERS = 3


@dataclass(frozen=True)
class Rejection:
    """A threshold on `score_known`: an image that scores lower is rejected as of no known class.

    The threshold comes from the support set alone: each class in turn is treated as unknown, and the threshold lies
    above the scores of most of its images (`choose_threshold`). `n_unknown`: number of these images; copies count once.
    """

    threshold: float
    n_unknown: int

    @classmethod
    def learn(cls, encoder: Encoder, support: Support, false_accept_rate: float) -> Self:
        """Choose the threshold for a false-accept rate; raises `DataError` for fewer than three classes."""
        copies = support.copies
        assert copies is not None, "call Support.check before learning a threshold"
        scores = np.full(len(np.unique(copies)), -np.inf)
        np.maximum.at(scores, copies, score_as_unknown(encoder, support))  # the highest score of each set of copies
        if encoder.method.evidence_in_logits:  # scores grow with the number of classes, one fewer in `score_as_unknown`
            n_classes = len(np.unique(support.labels))
            false_accept_rate *= (n_classes - 1) / n_classes
        return cls(choose_threshold(scores, false_accept_rate), len(scores))

    def accept(self, fitted: FittedMethod, support: Support, queries: Tensor) -> np.ndarray:
        """Decide which `queries` (n, …) belong to a known class, (n,) bool; `fitted` is fitted to `support`."""
        return score_known(fitted, support, queries) >= self.threshold


def score_known(fitted: FittedMethod, support: Support, queries: Tensor) -> np.ndarray:
    """Score how well each query fits its best class, (n,); higher is better, and scores compare between queries.

    If the method sets `evidence_in_logits`: the log of the sum over classes of exp(logit), the negative energy of
    Liu et al. 2020, https://arxiv.org/abs/2010.03759. Otherwise the maximum over support images of a relative
    similarity: the cosine of the query and the support image, minus the mean cosine of that support image and its
    three nearest images of other classes. Without the subtraction, scores would be lower for a class that lies far
    from all others than for one of several similar classes.
    """
    method = fitted.encoder.method
    if method.evidence_in_logits:
        return fitted.logits(queries).logsumexp(1).numpy()
    among = method.similarity(support.content, support.content)
    nearest_others = _measure_nearest_others(among, torch.from_numpy(support.labels))
    return (method.similarity(support.content, queries) - nearest_others).max(1).values.numpy()


def score_as_unknown(encoder: Encoder, support: Support) -> np.ndarray:
    """Score each support image by a classifier that was fitted without its class, (n,)."""
    classes = np.unique(support.labels)
    if len(classes) < 3:
        raise DataError(
            "rejecting images of no known class needs at least three classes: each is treated as unknown once, "
            f"and two must remain; there are {len(classes)}"
        )
    scores = np.zeros(len(support))
    for label in classes:
        mine = support.labels == label
        others = support.select(~mine).relabel(np.arange(len(classes)) - (np.arange(len(classes)) > label))
        fitted = fit(encoder, others, len(classes) - 1)
        scores[mine] = score_known(fitted, others, support.content[torch.from_numpy(np.flatnonzero(mine))])
    return scores


def _measure_nearest_others(similarity: Tensor, labels: Tensor) -> Tensor:
    """Mean similarity of each support image to its nearest images of other classes, (n,), from `similarity` (n, n)."""
    others = similarity.masked_fill(labels[:, None] == labels, -torch.inf)
    n_others = int((labels[:, None] != labels).sum(1).min())
    return others.topk(min(N_OTHERS, n_others), 1).values.mean(1)
