"""How well queries fit any class, in features that the classes' shared covariance whitens.

numpy only, since predictors use it too.
"""

import numpy as np

# Chosen on world coins' validation countries, CIFAR-FS's validation classes and 21 classes of GTSRB, see docs/log.md.
SHRINKAGE = 0.9
DISTANCE_WEIGHT = 0.2


def score_whitened(support: np.ndarray, labels: np.ndarray, queries: np.ndarray, unit: bool = True) -> np.ndarray:
    """Score how well each query fits any class, (n,); see `fewshot.estimator.familiarity.score_known`.

    Args:
        support: features (n_support, D).
        labels: (n_support,), numbers of classes; -1 takes no part.
        queries: features (n, D).
        unit: bring features to unit length first.
    """
    taking = labels >= 0
    support, queries = (x.reshape(len(x), -1).astype(np.float64) for x in (support[taking], queries))
    if unit:
        support, queries = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (support, queries))
    number = np.unique(labels[taking], return_inverse=True)[1]
    means = np.stack([support[number == label].mean(0) for label in range(number.max() + 1)])  # (n_way, D)
    centre = means.mean(0, keepdims=True)
    asked, known = np.concatenate([queries, support]), np.concatenate([centre, means, support])
    squares = measure_mahalanobis(asked, known, support - means[number], support - support.mean(0))
    n, n_way = len(queries), len(means)
    to_mean = squares[:n, 1 : 1 + n_way].min(1) / support.shape[1]
    from_centre, radius = squares[:n, :1], squares[n:, 0]
    length = np.maximum(np.sqrt(from_centre * radius), np.finfo(np.float64).eps)
    cosines = (from_centre + radius - squares[:n, 1 + n_way :]) / (2 * length)  # by the law of cosines
    return cosines.max(1) - DISTANCE_WEIGHT * to_mean


def measure_mahalanobis(a: np.ndarray, b: np.ndarray, within: np.ndarray, about: np.ndarray) -> np.ndarray:
    """Squared distances (n, m) of rows of `a` (n, D) and `b` (m, D) by the covariance of `within` (k, D), shrunk.

    `about` (k, D): images less their common mean, whose trace serves where `within` is zero. The covariance is that of
    `fewshot.methods.shared_covariance.SharedCovariance` with `SHRINKAGE`, also how it is inverted.
    """
    k, dim = within.shape
    trace, total = np.square(within).sum(), np.square(about).sum()
    tiny = np.finfo(np.float64).eps
    trace = max(trace if trace > tiny * total else total, tiny)
    scatter, identity = (1 - SHRINKAGE) / k, SHRINKAGE * trace / (dim * k)
    ratio = scatter / identity
    gram = within @ within.T if k < dim else within.T @ within
    factor = np.linalg.cholesky(np.eye(len(gram)) + ratio * gram)
    seen = [np.linalg.solve(factor, within @ x.T if k < dim else x.T).T for x in (a, b)]
    distances = measure_squares(*seen)
    distances = measure_squares(a, b) - ratio * distances if k < dim else distances
    return np.maximum(distances / identity, 0)


def measure_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of rows of `a` (n, D) and `b` (m, D)."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0)
