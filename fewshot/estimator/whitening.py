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
    return Whitening(support, labels, unit).score(queries)


class Whitening:
    """A support set by whose covariance queries are scored, prepared once for any number of calls of `score`.

    Distances are by the covariance of the images less their class mean, shrunk: that of
    `fewshot.methods.shared_covariance.SharedCovariance` with `SHRINKAGE`, also how it is inverted.

    Args:
        support, labels, unit: as of `score_whitened`.
    """

    def __init__(self, support: np.ndarray, labels: np.ndarray, unit: bool = True) -> None:
        taking, self.unit = labels >= 0, unit
        support = self._prepare(support[taking])
        number = np.unique(labels[taking], return_inverse=True)[1]
        means = np.stack([support[number == label].mean(0) for label in range(number.max() + 1)])  # (n_way, D)
        self.n_way = len(means)
        self.known = np.concatenate([means.mean(0, keepdims=True), means, support])
        within = support - means[number]
        k, dim = within.shape
        trace, total = np.square(within).sum(), np.square(support - support.mean(0)).sum()
        tiny = np.finfo(np.float64).eps
        trace = max(trace if trace > tiny * total else total, tiny)
        scatter, self.identity = (1 - SHRINKAGE) / k, SHRINKAGE * trace / (dim * k)
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
        squares = self.measure(self._prepare(queries))
        to_mean = squares[:, 1 : 1 + self.n_way].min(1) / self.known.shape[1]
        from_centre = squares[:, :1]
        length = np.maximum(np.sqrt(from_centre * self.radius), np.finfo(np.float64).eps)
        cosines = (from_centre + self.radius - squares[:, 1 + self.n_way :]) / (2 * length)  # by the law of cosines
        return cosines.max(1) - DISTANCE_WEIGHT * to_mean

    def _prepare(self, x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1).astype(np.float64)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) if self.unit else x


def measure_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of rows of `a` (n, D) and `b` (m, D)."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0)
