"""Gaussian discriminant analysis: classes with means of their own and one covariance."""

from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent, prototypes
from fewshot.methods.shared_covariance import SharedCovariance


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
        wide, asked = (F.normalize(x, dim=-1) if self.normalize else x for x in (support, query))
        wide = wide.masked_fill(support_labels[..., None] < 0, 0.0).double()  # padding could hold anything
        means, present = prototypes(wide, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        covariance = SharedCovariance.fit(wide, support_labels, n_way, self.shrinkage)
        distances = covariance.squared_distances(asked.double(), means)  # (B, n_query, n_way)
        return mask_absent((-distances / 2).to(query), present)
