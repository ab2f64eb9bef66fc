"""Heads on features; they scale features so that a learning rate has the same effect for every backbone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.distances import prototypes


class LinearHead(nn.Module):
    """Computes logits W x + b of features f, where x = (f − centre) / length.

    `centre` (D,) is the mean of the support's features before adaptation and `length` their root mean squared distance
    from it; both stay fixed. Started from prototypes the head is ProtoNet on x: W = 2 μ and b = −|μ|² for class
    means μ of x (Snell et al. 2017, https://arxiv.org/abs/1703.05175, section 2.4; as the start of a
    descent: Triantafillou et al. 2020, https://arxiv.org/abs/1903.03096, section 3, Proto-MAML).
    """

    def __init__(self, feature_dim: int, n_way: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(n_way, feature_dim)), nn.Parameter(torch.zeros(n_way))
        self.register_buffer("centre", torch.zeros(feature_dim))
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("present", torch.zeros(n_way, dtype=torch.bool))

    @torch.no_grad()
    def begin(self, features: Tensor, labels: Tensor, from_prototypes: bool) -> None:
        """Initialise the head from the support's features (n, D) and labels (n,)."""
        self.to(features)
        self.centre.copy_(features.mean(0))
        length = (features - self.centre).square().sum(1).mean().sqrt()
        self.length.copy_(torch.where(length > 0, length, 1))
        means, present = prototypes(self.transform(features)[None], labels[None], len(self.bias))
        self.present = present[0]
        if from_prototypes:
            self.weight.copy_(2 * means[0])
            self.bias.copy_(-means[0].square().sum(1))

    def transform(self, features: Tensor) -> Tensor:
        """Compute x (n, D), to which dropout is applied."""
        return (features - self.centre) / self.length

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (n, n_way) of inputs (n, D); −inf for classes without support."""
        return F.linear(inputs, self.weight, self.bias).masked_fill(~self.present, -torch.inf)


class CosineHead(nn.Module):
    """Computes logits scale · cos(w_c, f); w_c starts as the mean of a class's unit-length features.

    Imprinted weights: Qi, Brown, Lowe, Low-Shot Learning with Imprinted Weights, CVPR 2018,
    https://arxiv.org/abs/1712.07136. Differs from the paper: the scale is given, not learnt.
    """

    def __init__(self, feature_dim: int, n_way: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.zeros(n_way, feature_dim))
        self.register_buffer("present", torch.zeros(n_way, dtype=torch.bool))

    @torch.no_grad()
    def begin(self, features: Tensor, labels: Tensor, from_prototypes: bool = True) -> None:
        """Initialise the head from the support's features (n, D) and labels (n,)."""
        self.to(features)
        means, present = prototypes(self.transform(features)[None], labels[None], len(self.weight))
        self.present = present[0]
        self.weight.copy_(F.normalize(means[0], dim=-1))

    def transform(self, features: Tensor) -> Tensor:
        """Scale features (n, D) to unit length; dropout is applied to the result."""
        return F.normalize(features, dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (n, n_way) of inputs (n, D); −inf for classes without support."""
        logits = self.scale * F.linear(inputs, F.normalize(self.weight, dim=-1))
        return logits.masked_fill(~self.present, -torch.inf)
