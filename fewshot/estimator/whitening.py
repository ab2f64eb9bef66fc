"""How well queries fit any class, in features that the classes' shared covariance whitens.

numpy only, since predictors use it too.
"""

from collections.abc import Iterable

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
    return Whitening(support, labels, unit).score(queries)


def score_left_out_rows(
    features: np.ndarray, labels: np.ndarray, left_out: Iterable[np.ndarray], unit: bool = True
) -> list[np.ndarray]:
    """Score images by the support without them: for each mask of `left_out` (n,) the scores of its images.

    As `score_whitened` does, from inner products that are computed once: where images are fewer than the numbers of a
    feature, a support costs little then (docs/speed.md).

    Args:
        features: of all images (n, D).
        labels: (n,), numbers of classes from 0.
        left_out: masks (n,) bool.
        unit: bring features to unit length first.
    """
    features = _prepare(features, unit)
    if len(features) >= features.shape[1]:
        return [score_whitened(features, np.where(out, -1, labels), features[out], unit=False) for out in left_out]
    features = features - features.mean(0)
    products = features @ features.T
    return [_score_by_products(products, features.shape[1], labels, out) for out in left_out]


def _score_by_products(products: np.ndarray, dim: int, labels: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """`Whitening.score` of the images `left_out` (n,) by the others, from inner products (n, n) of `dim` numbers."""
    number = np.unique(labels[~left_out], return_inverse=True)[1]
    member = number == np.arange(number.max() + 1)[:, None]  # (n_way, k)
    share = member / member.sum(1, keepdims=True)
    n_way, k = share.shape

    def list_points(rows: np.ndarray) -> np.ndarray:  # centre, class means, support, queries
        means = share @ rows[~left_out]
        return np.concatenate([means.mean(0, keepdims=True), means, rows[~left_out], rows[left_out]])

    inner = list_points(list_points(products).T)  # (m, m) of all points
    seen, mean_of = slice(1 + n_way, 1 + n_way + k), 1 + number
    within = inner[seen] - inner[mean_of]  # (k, m): inner products with the support less its class means
    gram = within[:, seen] - within[:, mean_of]
    from_mean = inner[seen, seen].trace() - inner[seen, seen].mean() * k
    scatter, identity = _shrink(gram.trace(), from_mean, k, dim)
    ratio = scatter / identity
    mapped = np.linalg.solve(np.linalg.cholesky(np.eye(k) + ratio * gram), within)
    asked = np.r_[0, seen.stop : len(inner)]  # the centre, whose distances the score needs too, and the queries
    length = inner.diagonal() - ratio * np.square(mapped).sum(0)
    inner = inner[asked] - ratio * mapped[:, asked].T @ mapped
    squares = np.maximum((length[asked, None] + length - 2 * inner)[:, : seen.stop] / identity, 0)
    return _combine(squares[1:], squares[0, seen], n_way, dim)


class Whitening:
    """A support set by whose covariance queries are scored, prepared once for any number of calls of `score`.

    Distances are by the covariance of the images less their class mean, shrunk: that of
    `fewshot.methods.shared_covariance.SharedCovariance` with `SHRINKAGE`, also how it is inverted.

    Args:
        support, labels, unit: as of `score_whitened`.
    """

    def __init__(self, support: np.ndarray, labels: np.ndarray, unit: bool = True) -> None:
        taking, self.unit = labels >= 0, unit
        support = _prepare(support[taking], unit)
        number = np.unique(labels[taking], return_inverse=True)[1]
        means = np.stack([support[number == label].mean(0) for label in range(number.max() + 1)])  # (n_way, D)
        self.n_way = len(means)
        self.known = np.concatenate([means.mean(0, keepdims=True), means, support])
        within = support - means[number]
        k, dim = within.shape
        trace, total = np.square(within).sum(), np.square(support - support.mean(0)).sum()
        scatter, self.identity = _shrink(trace, total, k, dim)
        self.ratio = scatter / self.identity
        self.is_wide = k < dim  # then the covariance is inverted in the span of the images
        gram = within @ within.T if self.is_wide else within.T @ within
        factor = np.linalg.cholesky(np.eye(len(gram)) + self.ratio * gram)
        self.map = np.linalg.solve(factor, within if self.is_wide else np.eye(dim))  # (k or D, D)
        self.seen = self.known @ self.map.T
        self.radius = self.measure(self.known[1 + self.n_way :])[:, 0]

    def measure(self, queries: np.ndarray) -> np.ndarray:
        """Squared distances (n, 1 + n_way + n_support) to centre, class means and support, of prepared queries."""
        distances = measure_squares(queries @ self.map.T, self.seen)
        if self.is_wide:
            distances = measure_squares(queries, self.known) - self.ratio * distances
        return np.maximum(distances / self.identity, 0)

    def score(self, queries: np.ndarray) -> np.ndarray:
        """Score queries (n, D), (n,)."""
        squares = self.measure(_prepare(queries, self.unit))
        return _combine(squares, self.radius, self.n_way, self.known.shape[1])


def _prepare(x: np.ndarray, unit: bool) -> np.ndarray:
    x = x.reshape(len(x), -1).astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if unit else x


def _shrink(trace: float, total: float, k: int, dim: int) -> tuple[float, float]:
    """Weights of scatter matrix and identity, of k images of `dim` numbers.

    `trace`: sum of squares about the class means; `total`: about the mean of all, taken where the former vanishes.
    """
    tiny = np.finfo(np.float64).eps
    trace = max(trace if trace > tiny * total else total, tiny)
    return (1 - SHRINKAGE) / k, SHRINKAGE * trace / (dim * k)


def _combine(squares: np.ndarray, radius: np.ndarray, n_way: int, dim: int) -> np.ndarray:
    """The score (n,) from squared distances (n, 1 + n_way + n_support), see `Whitening.measure`.

    `radius` (n_support,): squared distances of the support to the centre.
    """
    to_mean = squares[:, 1 : 1 + n_way].min(1) / dim
    from_centre = squares[:, :1]
    length = np.maximum(np.sqrt(from_centre * radius), np.finfo(np.float64).eps)
    cosines = (from_centre + radius - squares[:, 1 + n_way :]) / (2 * length)  # by the law of cosines
    return cosines.max(1) - DISTANCE_WEIGHT * to_mean


def measure_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of rows of `a` (n, D) and `b` (m, D)."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0)
