"""Gaussian discriminant analysis: classes with means of their own and one covariance."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent, prototypes, squared_euclidean


@METHODS.register("gda")
class GaussianDiscriminantAnalysis(Method):
    """A query belongs to the class whose mean is nearest by the Mahalanobis distance of one shrunk covariance.

    Args:
        backbone: makes the features of images; None where features are given.
        shrinkage: share of the covariance that is replaced by its mean variance, above 0 and at most 1 (1: the nearest
            mean); None: the paper's estimate, which shrinks more the fewer images there are.
        normalize: bring features to unit length first, as the authors do.

    Wang, Liang, Sheng, He, Wang, Tan, A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation, ICLR 2024,
    https://arxiv.org/abs/2402.04087, equations 5 and 8; code https://github.com/mrflogs/ICLR24, main.py. Every class
    is a Gaussian, all with one covariance and one prior. With S the sum over the n support images of the outer
    products of what is left after their class's mean is subtracted, and D numbers in a feature, the covariance is
    (S + tr(S) / (n − 1) · I) / D, the empirical Bayes estimate of Kubokawa and Srivastava 2008; with a `shrinkage` s it
    is ((1 − s) S + s · tr(S) / D · I) / n, which is scikit-learn's LinearDiscriminantAnalysis of equally many images a
    class. Logits are minus half the squared Mahalanobis distances to the class means: log densities but for a constant.

    Differs from the paper: no text classifier is added to the logits, and they hold the term that all classes share.
    With one image a class S is zero, and the mean variance is that of all support images about their mean: the answer
    is the nearest mean's.
    """

    label, family = "GDA", "two-stage"
    published, colour = True, "#3B8F7E"

    def __init__(self, backbone: nn.Module | None, shrinkage: float | None = None, normalize: bool = True) -> None:
        super().__init__(backbone)
        if shrinkage is not None and not 0 < shrinkage <= 1:
            raise ConfigError(f"gda: shrinkage is above 0 and at most 1, or None, got {shrinkage}")
        self.shrinkage, self.normalize = shrinkage, normalize

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        real = (support_labels >= 0)[..., None]  # (B, n_support, 1)
        support, query = (F.normalize(x, dim=-1) if self.normalize else x for x in (support, query))
        support, wide = support.masked_fill(~real, 0.0).double(), query.double()
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        own = means.gather(1, support_labels.clamp_min(0)[..., None].expand_as(support))
        within = (support - own).masked_fill(~real, 0.0)  # (B, n_support, D)
        n_images = real.sum((1, 2)).clamp_min(1)  # (B,)
        scatter, identity = self._weigh(within, support, real, n_images)
        distances = _measure_mahalanobis(wide, means, within, scatter, identity)  # (B, n_query, n_way)
        return mask_absent((-distances / 2).to(query), present)

    def _weigh(self, within: Tensor, support: Tensor, real: Tensor, n_images: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (B, 1, 1) of S = `within`ᵀ `within` and of the identity in the covariance."""
        dim = support.shape[-1]
        mean = support.sum(1, keepdim=True) / n_images[:, None, None]
        trace, total = (x.square().sum((1, 2)) for x in (within, (support - mean).masked_fill(~real, 0.0)))
        tiny = torch.finfo(trace.dtype).eps
        trace = torch.where(trace > tiny * total, trace, total).clamp_min(tiny)  # (B,)
        if self.shrinkage is None:
            scatter, identity = torch.full_like(trace, 1 / dim), trace / (dim * (n_images - 1).clamp_min(1))
        else:
            scatter, identity = (1 - self.shrinkage) / n_images, self.shrinkage * trace / (dim * n_images)
        return scatter[:, None, None], identity[:, None, None]


def _measure_mahalanobis(a: Tensor, b: Tensor, x: Tensor, scatter: Tensor, identity: Tensor) -> Tensor:
    """Squared Mahalanobis distances (B, n, m) of rows of `a` (B, n, D) and `b` (B, m, D).

    By the covariance `scatter` · `x`ᵀ`x` + `identity` · I, of `x` (B, k, D) and factors (B, 1, 1), through its Cholesky
    factor; where k < D through that of a k x k matrix, by the Woodbury identity.
    """
    k, dim = x.shape[1:]
    ratio = scatter / identity
    gram = x @ x.mT if k < dim else x.mT @ x
    eye = torch.eye(len(gram[0]), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky_ex(eye + ratio * gram).L  # `cholesky` asks a GPU whether it went well
    if k < dim:
        a_seen, b_seen = (torch.linalg.solve_triangular(factor, x @ y.mT, upper=False).mT for y in (a, b))
        distances = squared_euclidean(a, b) - ratio * squared_euclidean(a_seen, b_seen)
    else:
        a_seen, b_seen = (torch.linalg.solve_triangular(factor, y.mT, upper=False).mT for y in (a, b))
        distances = squared_euclidean(a_seen, b_seen)
    return distances / identity
