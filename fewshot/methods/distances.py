"""Prototypes and similarities; larger = likelier everywhere, so distances are negated here, once."""

import torch
from torch import Tensor
from torch.nn import functional as F


def prototypes(features: Tensor, labels: Tensor, n_way: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each class, (B, n_way, D), and which classes are there, (B, n_way) bool.

    `features` (B, n, D), `labels` (B, n) in 0..n_way-1 or -1 for padding. Right for unequal shots.
    """
    member = F.one_hot(labels + 1, n_way + 1)[..., 1:].to(features.dtype)  # (B, n, n_way)
    counts = member.sum(1)  # (B, n_way)
    sums = member.transpose(1, 2) @ features  # (B, n_way, D)
    return sums / counts.clamp_min(1)[..., None], counts > 0


def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B, n, m) of the rows of `a` (B, n, D) and `b` (B, m, D), summed over D.

    |a|² + |b|² − 2ab, on rows centred on the mean of `b`: the distance is the same, and little is
    lost to cancellation.
    """
    centre = b.mean(1, keepdim=True)
    a, b = a - centre, b - centre
    squares = a.square().sum(-1)[..., None] + b.square().sum(-1)[..., None, :]
    return (squares - 2 * a @ b.transpose(1, 2)).clamp_min(0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities (B, n, m) of the rows of `a` (B, n, D) and `b` (B, m, D)."""
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(1, 2)


def mask_absent(logits: Tensor, present: Tensor) -> Tensor:
    """`logits` (B, n, n_way) with −inf for classes that an episode does not have (`present` (B, n_way))."""
    return logits.masked_fill(~present[:, None, :], -torch.inf)
