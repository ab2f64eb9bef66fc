"""How well an image fits any known class: scores of queries, and of support images as if they were not known yet."""

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones import Viewed
from fewshot.errors import DataError
from fewshot.estimator.fitting import FittedMethod, fit
from fewshot.estimator.ranks import deal_folds
from fewshot.estimator.whitening import score_whitened


def score_known(fitted: FittedMethod, queries: Tensor) -> np.ndarray:
    """How well each of `queries` (n, …) fits any class of the support, (n,); comparable between queries.

    Where the method's logits tell (`evidence_in_logits`): the log of the sum over classes of exp(logit), the negative
    energy of Liu et al. 2020, https://arxiv.org/abs/2010.03759. Else in the space in which the classes' shared
    covariance (`SharedCovariance`) is the identity: the cosine, about the mean of the class means, to the support image
    where it is greatest, minus `DISTANCE_WEIGHT` times the squared distance to the nearest class mean per dimension,
    the Mahalanobis distance of Lee et al. 2018, https://arxiv.org/abs/1807.03888.
    """
    if fitted.encoder.method.evidence_in_logits:
        return fitted.logits(queries).logsumexp(1).numpy()
    return _score(fitted, fitted.support.labels, queries)


def score_as_unknown(fitted: FittedMethod) -> np.ndarray:
    """The score that each support image would have if its class were not known, (n,).

    Raises `DataError` for fewer than three classes.
    """
    support, labels = fitted.support, fitted.support.labels
    classes = np.unique(labels)
    if len(classes) < 3:
        raise DataError(
            "to tell images of no known class apart, three classes are needed: each is taken for unknown once, "
            f"and two must remain; there are {len(classes)}"
        )
    scores = np.zeros(len(labels))
    for label in classes:
        mine = labels == label
        images = support.content[torch.from_numpy(np.flatnonzero(mine))]
        if fitted.encoder.method.evidence_in_logits:
            others = support.select(~mine).relabel(np.arange(len(classes)) - (np.arange(len(classes)) > label))
            scores[mine] = score_known(fit(fitted.encoder, others, len(classes) - 1), images)
        else:
            scores[mine] = _score(fitted, np.where(mine, -1, labels), images)
    return scores


def score_left_out(fitted: FittedMethod) -> tuple[np.ndarray, np.ndarray]:
    """The score (m,) of support images from fits without their group, and which images these are, (m,).

    The folds are those of `FittedMethod.held_out`, so that answers and scores belong together.
    """
    if fitted.encoder.method.evidence_in_logits:
        logits, rows = fitted.held_out
        return logits.logsumexp(1).numpy(), rows
    labels = fitted.support.labels
    fold = deal_folds(labels, fitted.support.independent)
    scores, which = [np.zeros(0)], [np.zeros(0, np.int64)]
    for number in np.unique(fold[fold >= 0]):
        rows = np.flatnonzero(fold == number)
        images = fitted.support.content[torch.from_numpy(rows)]
        scores.append(_score(fitted, np.where(fold == number, -1, labels), images))
        which.append(rows)
    return np.concatenate(scores), np.concatenate(which)


def _score(fitted: FittedMethod, labels: np.ndarray, queries: Tensor) -> np.ndarray:
    """`score_known` of `queries` (n, …) by the support's features alone; labels (n_support,) of -1 take no part."""
    unit = not isinstance(fitted.encoder.method.backbone, Viewed)  # of views: unit length already, with cues beside
    return score_whitened(fitted.support.content.numpy(), labels, queries.numpy(), unit)
