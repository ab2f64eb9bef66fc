"""Prototypes, distances and similarities of features."""

import torch
from torch import Tensor
from torch.nn import functional as F


def prototypes(features: Tensor, labels: Tensor, n_way: int) -> tuple[Tensor, Tensor]:
    """Compute the mean feature of each class, (B, n_way, D), and which classes have features, (B, n_way) bool.

    `features` (B, n, D); `labels` (B, n) in 0..n_way-1, or -1 for padding. Classes may differ in shots.
    """
    member = F.one_hot(labels + 1, n_way + 1)[..., 1:].to(features.dtype)  # (B, n, n_way)
    counts = member.sum(1)  # (B, n_way)
    sums = member.transpose(1, 2) @ features  # (B, n_way, D)
    return sums / counts.clamp_min(1)[..., None], counts > 0


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Compute squared distances (B, n, m) between the rows of `a` (B, n, D) and `b` (B, m, D), summed over D.

    They are |a|² + |b|² − 2ab. The mean of the rows of `b` is subtracted from all rows first, which leaves distances
    the same and reduces cancellation.
    """
    centre = b.mean(1, keepdim=True)
    a, b = a - centre, b - centre
    squares = a.square().sum(-1)[..., None] + b.square().sum(-1)[..., None, :]
    return (squares - 2 * a @ b.transpose(1, 2)).clamp_min(0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Compute cosine similarities (B, n, m) between the rows of `a` (B, n, D) and `b` (B, m, D)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(1, 2)


def mask_absent(logits: Tensor, present: Tensor) -> Tensor:
    """Set `logits` (B, n, n_way) to −inf for classes that an episode lacks; `present` (B, n_way) bool."""
    return logits.masked_fill(~present[:, None, :], -torch.inf)
