"""How well an image fits any known class: scores of queries, and of support images as if they were not known yet."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.backbones import Viewed
from fewshot.errors import DataError
from fewshot.estimator.confidence import deal_folds
from fewshot.estimator.fitting import FittedMethod, fit
from fewshot.methods.distances import prototypes
from fewshot.methods.shared_covariance import SharedCovariance

# Chosen on world coins' validation countries, CIFAR-FS's validation classes and 21 classes of GTSRB, see docs/log.md.
SHRINKAGE = 0.9
DISTANCE_WEIGHT = 0.2


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
            others = support.rows(~mine).relabel(np.arange(len(classes)) - (np.arange(len(classes)) > label))
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


@torch.no_grad()
def _score(fitted: FittedMethod, labels: np.ndarray, queries: Tensor) -> np.ndarray:
    """`score_known` of `queries` (n, …) by the support's features alone; labels (n_support,) of -1 take no part."""
    seen = torch.from_numpy(labels >= 0)
    support, queries = (x.flatten(1).double()[None] for x in (fitted.support.content[seen], queries))
    if not isinstance(fitted.encoder.method.backbone, Viewed):  # of views: unit length already, with cues beside
        support, queries = F.normalize(support, dim=-1), F.normalize(queries, dim=-1)
    numbers = torch.from_numpy(np.unique(labels[labels >= 0], return_inverse=True)[1])[None]
    n_way, n_queries = int(numbers.max()) + 1, queries.shape[1]
    means, _ = prototypes(support, numbers, n_way)
    covariance = SharedCovariance.fit(support, numbers, n_way, SHRINKAGE)
    centre = means.mean(1, keepdim=True)
    asked, known = torch.cat([queries, support], 1), torch.cat([centre, means, support], 1)
    squares = covariance.squared_distances(asked, known)[0].clamp_min(0)  # (n + n_support, 1 + n_way + n_support)
    to_mean = squares[:n_queries, 1 : 1 + n_way].amin(1) / support.shape[2]
    between = squares[:n_queries, 1 + n_way :]
    from_centre, radius = squares[:n_queries, :1], squares[n_queries:, 0]
    length = (from_centre * radius).sqrt().clamp_min(torch.finfo(squares.dtype).eps)
    cosines = (from_centre + radius - between) / (2 * length)  # by the law of cosines
    return (cosines.amax(1) - DISTANCE_WEIGHT * to_mean).numpy()
