"""One covariance for all classes of an episode, shrunk so that a few images are enough, and distances by it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from fewshot.methods.distances import prototypes, squared_euclidean


@dataclass(frozen=True)
class SharedCovariance:
    """The covariance `scatter` · `within`ᵀ `within` + `identity` · I of B episodes.

    `within` (B, n_support, D): images less their class's mean, zeros for padding; `scatter`, `identity` (B, 1, 1).
    """

    within: Tensor
    scatter: Tensor
    identity: Tensor

    @classmethod
    def fit(cls, support: Tensor, labels: Tensor, n_way: int, shrinkage: float | None = None) -> Self:
        """The covariance of features (B, n_support, D) about the means of their classes.

        With S the sum of outer products of `within`, and D numbers in a feature, it is
        ((1 − s) S + s · tr(S) / D · I) / n of n images for a `shrinkage` s in (0, 1], and for None
        (S + tr(S) / (n − 1) · I) / D, which shrinks more the fewer images there are. Where S is zero, as with one image
        a class, the trace is that of all images about their mean.

        Args:
            support: features (B, n_support, D), zeros for padding.
            labels: (B, n_support), 0..n_way-1, or -1 for padding.
            n_way: number of classes.
            shrinkage: share of the covariance that is replaced by its mean variance.
        """
        real, dim = (labels >= 0)[..., None], support.shape[-1]  # (B, n_support, 1)
        means, _ = prototypes(support, labels, n_way)
        own = means.gather(1, labels.clamp_min(0)[..., None].expand_as(support))
        n_images = real.sum((1, 2)).clamp_min(1)  # (B,)
        mean = support.sum(1, keepdim=True) / n_images[:, None, None]
        within, about = ((support - x).masked_fill(~real, 0.0) for x in (own, mean))
        trace, total = (x.square().sum((1, 2)) for x in (within, about))
        tiny = torch.finfo(trace.dtype).eps
        trace = torch.where(trace > tiny * total, trace, total).clamp_min(tiny)  # (B,)
        if shrinkage is None:
            scatter, identity = torch.full_like(trace, 1 / dim), trace / (dim * (n_images - 1).clamp_min(1))
        else:
            scatter, identity = (1 - shrinkage) / n_images.to(trace), shrinkage * trace / (dim * n_images)
        return cls(within, scatter[:, None, None], identity[:, None, None])

    def squared_distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared Mahalanobis distances (B, n, m) of rows of `a` (B, n, D) and `b` (B, m, D).

        Through the Cholesky factor of the covariance; where n_support < D through that of a matrix n_support x
        n_support, by the Woodbury identity.
        """
        x, ratio = self.within, self.scatter / self.identity
        fewer = x.shape[1] < x.shape[2]
        gram = x @ x.mT if fewer else x.mT @ x
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        factor = torch.linalg.cholesky_ex(eye + ratio * gram).L  # `cholesky` asks a GPU whether it went well
        seen = [torch.linalg.solve_triangular(factor, x @ y.mT if fewer else y.mT, upper=False).mT for y in (a, b)]
        distances = squared_euclidean(*seen)
        return (squared_euclidean(a, b) - ratio * distances if fewer else distances) / self.identity
