"""How well an image fits any known class: scores of queries, and of support images as if they were not known yet."""

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones import Viewed
from fewshot.errors import DataError
from fewshot.estimator.fitting import FittedMethod, fit
from fewshot.estimator.ranks import deal_folds
from fewshot.estimator.whitening import score_left_out_rows, score_whitened


def score_known(fitted: FittedMethod, queries: Tensor) -> np.ndarray:
    """Score how well each of `queries` (n, …) fits any class of the support, (n,); comparable between queries.

    Where the method's logits tell (`evidence_in_logits`): the log of the sum over classes of exp(logit), the negative
    energy of Liu et al. 2020, https://arxiv.org/abs/2010.03759. Else in the space in which the classes' shared
    covariance (`SharedCovariance`) is the identity: the cosine, about the mean of the class means, to the support image
    where it is greatest, minus `DISTANCE_WEIGHT` times the squared distance to the nearest class mean per dimension,
    the Mahalanobis distance of Lee et al. 2018, https://arxiv.org/abs/1807.03888.
    """
    if fitted.encoder.method.evidence_in_logits:
        return fitted.logits(queries).logsumexp(1).numpy()
    support = fitted.support
    return score_whitened(support.content.numpy(), support.labels, queries.numpy(), _is_unit(fitted))


def score_as_unknown(fitted: FittedMethod) -> np.ndarray:
    """Score each support image as if its class were unknown, (n,).

    Raises `DataError` for fewer than three classes.
    """
    labels = fitted.support.labels
    classes = np.unique(labels)
    if len(classes) < 3:
        raise DataError(
            "to tell images of no known class apart, three classes are needed: each is taken for unknown once, "
            f"and two must remain; there are {len(classes)}"
        )
    left_out = [labels == label for label in classes]
    scores = np.zeros(len(labels))
    for mine, part in zip(left_out, _score_without(fitted, left_out), strict=True):
        scores[mine] = part
    return scores


def score_left_out(fitted: FittedMethod) -> tuple[np.ndarray, np.ndarray]:
    """Score support images by fits without their group; returns scores (m,) and the images' rows (m,).

    The folds are those of `FittedMethod.held_out`, so that answers and scores belong together.
    """
    if fitted.encoder.method.evidence_in_logits:
        logits, rows = fitted.held_out
        return logits.logsumexp(1).numpy(), rows
    labels = fitted.support.labels
    fold = deal_folds(labels, fitted.support.independent)
    left_out = [fold == number for number in np.unique(fold[fold >= 0])]
    which = [np.zeros(0, np.int64), *(np.flatnonzero(out) for out in left_out)]
    return np.concatenate([np.zeros(0), *_score_rows(fitted, left_out)]), np.concatenate(which)


def _score_without(fitted: FittedMethod, left_out: list[np.ndarray]) -> list[np.ndarray]:
    """`score_known` of each class in `left_out`, masks (n,), by fits to the other classes."""
    if not fitted.encoder.method.evidence_in_logits:
        return _score_rows(fitted, left_out)
    scores = []
    for mine in left_out:
        others = fitted.support.select(~mine)
        others = others.relabel(np.searchsorted(np.unique(others.labels), np.arange(fitted.n_classes)))
        images = fitted.support.content[torch.from_numpy(np.flatnonzero(mine))]
        scores.append(score_known(fit(fitted.encoder, others, fitted.n_classes - 1), images))
    return scores


def _score_rows(fitted: FittedMethod, left_out: list[np.ndarray]) -> list[np.ndarray]:
    """`score_known` by features alone: for each mask of `left_out` (n,) its images by the others."""
    support = fitted.support
    return score_left_out_rows(support.content.numpy(), support.labels, left_out, _is_unit(fitted))


def _is_unit(fitted: FittedMethod) -> bool:
    """Whether features are brought to unit length: of views they are already, with cues beside."""
    return not isinstance(fitted.encoder.method.backbone, Viewed)
