"""Compare local features at the best relative rotation, for round objects of any orientation, such as coins."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.cue_densities import score_colours, score_sizes
from fewshot.methods.distances import mask_absent
from fewshot.methods.solvers.softmax_regression import fit_softmax_regression


@METHODS.register("aligned")
class Aligned(Method):
    """Logistic regression on global features, plus local similarity to support images at the best rotation.

    Args:
        backbone: computes the features of images; None if features are given.
        layout: shape (turns, rings, channels) of the local features, the last numbers of a feature (default: that of
            the backbone, `Viewed` with `rings`).
        weight: weight of the local score in the logits.
        sharpness: factor of similarities before the mean of their exponentials is taken.
        shrinkage: fraction of the covariance of local features that is replaced by its mean variance.
        c: C of the logistic regression on global features.
        cues: how many colours and sizes there are, the last of the global features in this order (default: those of the
            backbone, `Viewed` with `colour` and `radius`).
        colour_weight: weight of the density of the colours in the logits (0: none).
        size_spread: standard deviation of sizes within a class, in units of the cue, for their density in the logits
            (0: none). With `radius` 1.4 and radii that spread by 3.5% it is 1.4 · 0.035 / 0.1 = 0.49.

    The local features are vectors (cells), one for each direction and distance from the middle of the object. The mean
    over the support's images and directions is subtracted from them, they are whitened by the covariance of the
    support's cells (shrunk by `shrinkage`) and scaled to unit length. The similarity s of two images is the mean cosine
    of their cells, at the relative rotation where it is greatest. The local score of a class is the log of the mean of
    exp(`sharpness` · s) over its support images. Logits are `weight` times that score, plus the log-probabilities of
    logistic regression with C = `c` on the global features (as `baseline` with solver="logistic"), and, if asked for,
    log densities of the cues: of the colours by the shared covariance of the support (`colour_weight` times), of the
    size by a known spread, which one image a class cannot tell (`fewshot.methods.cue_densities`). If all logits of a
    query are low, it is similar to none of the classes (`evidence_in_logits`).

    The method is ours, of known parts. Similarities at all rotations are computed by a product of spectra, as in
    Reddy, Chatterji, An FFT-based technique for translation, rotation, and scale-invariant image registration, IEEE
    Transactions on Image Processing 1996. Queries are compared with support images by local features, as in Li et al.,
    Revisiting Local Descriptor based Image-to-Class Measure (DN4), CVPR 2019, https://arxiv.org/abs/1903.12290, which
    ignores their places; here places matter. Whitening reduces the weight of directions in feature space that all
    images share, as in Jégou and Chum, Negative evidences and co-occurences in image retrieval, ECCV 2012. `weight`,
    `sharpness` and `shrinkage` were chosen from a grid on episodes of world coins' validation countries
    (scripts/recipes/coins/frozen.yaml). The regression is fitted to detached features.
    """

    label, family = "aligned", "two-stage"
    published, colour = True, "#2F4B7C"
    evidence_in_logits = True

    def __init__(
        self,
        backbone: nn.Module | None,
        layout: Sequence[int] | None = None,
        weight: float = 0.6,
        sharpness: float = 40.0,
        shrinkage: float = 0.3,
        c: float = 10.0,
        cues: Sequence[int] | None = None,
        colour_weight: float = 0.0,
        size_spread: float = 0.0,
    ) -> None:
        super().__init__(backbone)
        layout = layout or getattr(backbone, "layout", None)
        if layout is None or len(layout) != 3 or min(layout) < 1:
            raise ConfigError(
                f"aligned: layout is (turns, rings, channels) of the local features, got {layout}; a backbone with "
                "views={'rings': ...} has one"
            )
        if min(weight, sharpness, c) <= 0:
            raise ConfigError(f"aligned: weight, sharpness and c are positive, got {weight}, {sharpness}, {c}")
        if not 0 < shrinkage <= 1:
            raise ConfigError(f"aligned: shrinkage is above 0 and at most 1, got {shrinkage}")
        self.layout, self.weight, self.sharpness, self.c = tuple(layout), weight, sharpness, c
        self.shrinkage = shrinkage
        counts = tuple(cues if cues is not None else getattr(backbone, "cues", (0, 0)))
        if len(counts) != 2 or min(counts) < 0:
            raise ConfigError(f"aligned: cues are two numbers, of colours and of sizes, not negative, got {counts}")
        if min(colour_weight, size_spread) < 0:
            raise ConfigError(
                f"aligned: colour_weight and size_spread are not negative, got {colour_weight} and {size_spread}"
            )
        if (colour_weight and not counts[0]) or (size_spread and not counts[1]):
            raise ConfigError(
                f"aligned: colour_weight={colour_weight} and size_spread={size_spread} ask for cues, and the features "
                f"have {counts[0]} colours and {counts[1]} sizes: use views={{'colour': …, 'radius': …}}, or say cues"
            )
        self.cues, self.colour_weight, self.size_spread = counts, colour_weight, size_spread

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        n_global = self._count_global(support)
        support = support.masked_fill(support_labels[..., None] < 0, 0.0)
        weight, bias = fit_softmax_regression(support[..., :n_global].detach(), support_labels, n_way, self.c)
        member = F.one_hot(support_labels + 1, n_way + 1)[..., 1:].to(support.dtype)  # zeros for padding
        number = member.sum(1)[:, None]  # (B, 1, n_way)
        regression = torch.baddbmm(bias[:, None], query[..., :n_global], weight.mT)
        regression = mask_absent(regression, number[:, 0] > 0).log_softmax(-1)
        similarity = self._similarity(support, query, member.sum(-1))
        scores = self.sharpness * similarity  # (B, n_query, n_support)
        highest = scores.detach().amax(-1, keepdim=True)
        evidence = (scores - highest).exp() @ member / number.clamp_min(1)
        local = evidence.clamp_min(torch.finfo(scores.dtype).tiny).log() + highest
        cues = self._score_cues(support[..., :n_global], support_labels, query[..., :n_global], n_way)
        return regression + self.weight * local + cues

    def _score_cues(self, support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor | float:
        """Compute what the cues, the last of the global features, add to the logits: (B, n_query, n_way)."""
        n_colours, n_sizes = self.cues
        total: Tensor | float = 0.0
        if self.colour_weight:
            first = support.shape[-1] - n_colours - n_sizes
            seen, asked = (x[..., first : first + n_colours] for x in (support, query))
            total = total + self.colour_weight * score_colours(seen, labels, asked, n_way)
        if self.size_spread:
            seen, asked = (x[..., x.shape[-1] - n_sizes :] for x in (support, query))
            total = total + score_sizes(seen, labels, asked, n_way, self.size_spread)
        return total

    def similarity(self, support: Tensor, query: Tensor) -> Tensor:
        """Compute the similarity s of images, (n_query, n_support), from features (n, D); see the class."""
        return self._similarity(support[None], query[None], torch.ones_like(support[None, :, 0]))[0]

    def _similarity(self, support: Tensor, query: Tensor, counted: Tensor) -> Tensor:
        """Compute s, (B, n_query, n_support), from features (B, n, D); `counted` (B, n_support): 0 for padding."""
        n_global = self._count_global(support)
        cells = [F.normalize(x[..., n_global:].unflatten(-1, self.layout), dim=-1) for x in (support, query)]
        whitened = _whiten(cells, counted, self.shrinkage)
        return _match_best_turn(*(F.normalize(x, dim=-1) for x in reversed(whitened)))

    def _count_global(self, features: Tensor) -> int:
        n_global = features.shape[-1] - math.prod(self.layout)
        if n_global <= sum(self.cues):
            asked = f"layout {self.layout} and global ones" + (f" with cues {self.cues}" if any(self.cues) else "")
            raise ConfigError(f"aligned: {features.shape[-1]} features hold no {asked}")
        return n_global


def _whiten(cells: list[Tensor], counted: Tensor, shrinkage: float) -> list[Tensor]:
    """Centre and whiten the cells of support and queries, (B, n, turns, rings, channels) each.

    Mean and covariance are those of the support's cells. `counted` (B, n_support): 0 for padding.
    """
    support = cells[0]
    share = (counted / counted.sum(1, keepdim=True))[..., None, None]  # (B, n_support, 1, 1)
    mean = (support.mean(2) * share).sum(1)[:, None, None]  # (B, 1, 1, rings, channels)
    flat = ((support - mean) * share[..., None].sqrt()).flatten(1, -2)  # (B, all cells, channels)
    covariance = flat.mT @ flat
    n_channels = flat.shape[-1]
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(torch.finfo(flat.dtype).eps)[:, None, None]
    identity = torch.eye(n_channels, dtype=flat.dtype, device=flat.device)
    factor = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * variance * identity)
    return [_solve(factor, x - mean) for x in cells]


def _solve(factor: Tensor, cells: Tensor) -> Tensor:
    """Apply the inverse of the triangular `factor` (B, c, c) to the channels of `cells` (B, …, c)."""
    return torch.linalg.solve_triangular(factor, cells.flatten(1, -2).mT, upper=False).mT.view_as(cells)


def _match_best_turn(query: Tensor, support: Tensor) -> Tensor:
    """Compute the mean product of the cells (B, n, turns, rings, channels) of two images at their best rotation.

    Returns (B, n_query, n_support). By the correlation theorem, a product of spectra gives the mean at all rotations.
    """
    turns, rings = query.shape[2:4]
    a, b = (torch.fft.rfft(x.flatten(3), dim=2) for x in (query, support))  # (B, n, turns // 2 + 1, rings * channels)
    products = torch.einsum("bqfd,bsfd->bqsf", a, b.conj())
    return torch.fft.irfft(products, n=turns, dim=-1).amax(-1) / (turns * rings)
