"""Whether an image belongs to any known class at all."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import Fitted, fit
from fewshot.estimator.ranks import choose_threshold
from fewshot.estimator.support import Support

N_OTHERS = 3


@dataclass(frozen=True)
class Rejection:
    """Images with a score below `threshold` are of no known class; see `score_known`.

    The threshold comes from the support set alone: each class in turn is taken for unknown, and the highest scores
    that its images get are not enough (`choose_threshold`). `n_unknown`: images it was set by; copies count as one.
    """

    threshold: float
    n_unknown: int

    @classmethod
    def learn(cls, encoder: Encoder, support: Support, false_accept_rate: float) -> Self:
        """The threshold for a false-accept rate; raises `DataError` for fewer than three classes."""
        copies = support.copies
        assert copies is not None, "learn from a support set whose copies were found"
        scores = np.full(len(np.unique(copies)), -np.inf)
        np.maximum.at(scores, copies, score_as_unknown(encoder, support))  # of each set of copies the highest
        if encoder.method.evidence_in_logits:  # with the class that was left out there is one more to be taken for
            n_classes = len(np.unique(support.labels))
            false_accept_rate *= (n_classes - 1) / n_classes
        return cls(choose_threshold(scores, false_accept_rate), len(scores))

    def accept(self, fitted: Fitted, support: Support, queries: Tensor) -> np.ndarray:
        """Whether each of `queries` (n, …) is taken for one of the classes, (n,) bool; `fitted` to `support`."""
        return score_known(fitted, support, queries) >= self.threshold


def score_known(fitted: Fitted, support: Support, queries: Tensor) -> np.ndarray:
    """How well each query fits any class of the support, (n,), `fitted` to it; comparable between queries.

    Where the method's logits tell (`evidence_in_logits`): the log of the sum over classes of exp(logit), the negative
    energy of Liu et al. 2020, https://arxiv.org/abs/2010.03759. Else how much better it matches a support image than
    other classes do: the cosine of the features of the query and a support image, minus the mean cosine of that support
    image and its three nearest images of other classes; the highest over the support. The subtraction makes scores of
    classes comparable that lie close together or far apart.
    """
    method = fitted.encoder.method
    if method.evidence_in_logits:
        return fitted.logits(queries).logsumexp(1).numpy()
    among = method.similarity(support.content, support.content)
    beside = _score_beside(among, torch.from_numpy(support.labels))
    return (method.similarity(support.content, queries) - beside).max(1).values.numpy()


def score_as_unknown(encoder: Encoder, support: Support) -> np.ndarray:
    """The score that each support image would have if its class were not known, (n,)."""
    classes = np.unique(support.labels)
    if len(classes) < 3:
        raise DataError(
            "to tell images of no known class apart, three classes are needed: each is taken for unknown once, "
            f"and two must remain; there are {len(classes)}"
        )
    scores = np.zeros(len(support))
    for label in classes:
        mine = support.labels == label
        others = support.rows(~mine).relabel(np.arange(len(classes)) - (np.arange(len(classes)) > label))
        fitted = fit(encoder, others, len(classes) - 1)
        scores[mine] = score_known(fitted, others, support.content[torch.from_numpy(np.flatnonzero(mine))])
    return scores


def _score_beside(similarity: Tensor, labels: Tensor) -> Tensor:
    """Mean similarity of each support image and its nearest images of other classes, (n,), of `similarity` (n, n)."""
    others = similarity.masked_fill(labels[:, None] == labels, -torch.inf)
    n_others = int((labels[:, None] != labels).sum(1).min())
    return others.topk(min(N_OTHERS, n_others), 1).values.mean(1)
