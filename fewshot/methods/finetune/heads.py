"""Heads on features, each with a scale of its own, so that learning rates mean the same for every backbone."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.distances import prototypes


class LinearHead(nn.Module):
    """Logits W x + b of features f that are centred and scaled by the first support: x = (f − centre) / length.

    `centre` (D,) is the mean of the support's features before adaptation, `length` their root mean squared
    distance from it; both stay. Started from prototypes it is ProtoNet on them: W = 2 μ, b = −|μ|² for class
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
        """Set the head by the support's features (n, D) and labels (n,)."""
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
        """What the weights see, x (n, D); dropout belongs here."""
        return (features - self.centre) / self.length

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, n_way) of inputs (n, D); −inf for classes without support."""
        return F.linear(inputs, self.weight, self.bias).masked_fill(~self.present, -torch.inf)


class CosineHead(nn.Module):
    """Logits scale · cos(w_c, f), started from the mean of each class's unit-length features.

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
        """Set the head by the support's features (n, D) and labels (n,)."""
        self.to(features)
        means, present = prototypes(self.transform(features)[None], labels[None], len(self.weight))
        self.present = present[0]
        self.weight.copy_(F.normalize(means[0], dim=-1))

    def transform(self, features: Tensor) -> Tensor:
        """Features (n, D) of unit length; dropout belongs here."""
        return F.normalize(features, dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, n_way) of inputs (n, D); −inf for classes without support."""
        logits = self.scale * F.linear(inputs, F.normalize(self.weight, dim=-1))
        return logits.masked_fill(~self.present, -torch.inf)
