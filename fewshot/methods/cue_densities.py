"""How well the colours and the size of an image fit each class: Gaussians, of few numbers and few images."""

import torch
from torch import Tensor

from fewshot.methods.distances import prototypes
from fewshot.methods.shared_covariance import SharedCovariance

# Of the covariance of colours; chosen on one half of the photographs of euro coins, judged on the other.
SHRINKAGE = 0.3


def score_colours(support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor:
    """Compute log densities of colours under Gaussians with one covariance, but for a constant: (B, n_query, n_way).

    They are zero where no class has two images, since a covariance cannot be estimated then.

    Args:
        support: colours (B, n_support, k), zeros for padding.
        labels: (B, n_support), 0..n_way-1, or -1 for padding.
        query: (B, n_query, k).
        n_way: classes of an episode.
    """
    wide = support.double()
    means, present = prototypes(wide, labels, n_way)  # (B, n_way, k), (B, n_way)
    covariance = SharedCovariance.fit(wide, labels, n_way, SHRINKAGE)
    scores = -covariance.squared_distances(query.double(), means) / 2
    several = (labels >= 0).sum(1) > present.sum(1)  # (B,)
    return torch.where(several[:, None, None], scores, 0.0).to(query)


def score_sizes(support: Tensor, labels: Tensor, query: Tensor, n_way: int, spread: float) -> Tensor:
    """Compute log densities of sizes, whose spread within a class is known, but for a constant: (B, n_query, n_way).

    The mean of n images is uncertain too, so that the variance is (1 + 1/n) · `spread`².

    Args:
        support: sizes (B, n_support, k), zeros for padding.
        labels: (B, n_support), 0..n_way-1, or -1 for padding.
        query: (B, n_query, k).
        n_way: classes of an episode.
        spread: standard deviation within a class.
    """
    means, _ = prototypes(support, labels, n_way)
    number = torch.stack([(labels == label).sum(1) for label in range(n_way)], 1).clamp_min(1)  # (B, n_way)
    wider = (1 + 1 / number.to(query))[:, None]
    squared = (query[:, :, None] - means[:, None]).square().sum(-1)  # (B, n_query, n_way)
    return -squared / (2 * spread**2 * wider) - wider.log() * (support.shape[-1] / 2)
