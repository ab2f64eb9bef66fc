"""Prototypical Networks."""

from typing import Literal

import torch
from torch import Tensor, nn

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import cosine, prototypes, squared_euclidean, without_absent


@METHODS.register("protonet")
class PrototypicalNetwork(Method):
    """Each class is the mean of its support features; a query belongs to the nearest mean.

    Snell, Swersky, Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
    https://arxiv.org/abs/1703.05175, equations 1 and 2. Logits are negated squared Euclidean
    distances, summed over the feature's dimensions and not scaled, as in the authors' code.
    `distance="cosine"` instead multiplies the cosine similarity by a learnable `scale`.

    Differs from the paper: none known with `squared_euclidean`; the paper's cosine variant has no scale.
    """

    def __init__(
        self,
        backbone: nn.Module | None,
        distance: Literal["squared_euclidean", "cosine"] = "squared_euclidean",
        initial_scale: float = 10.0,  # of the cosine: Chen et al. 2021, section 3.2
    ) -> None:
        super().__init__(backbone)
        if distance not in ("squared_euclidean", "cosine"):
            raise ConfigError(f"protonet: distance is squared_euclidean or cosine, got {distance!r}")
        self.distance = distance
        self.scale = nn.Parameter(torch.tensor(float(initial_scale))) if distance == "cosine" else None

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        if self.scale is None:
            logits = -squared_euclidean(query, means)  # (B, n_query, n_way)
        else:
            logits = self.scale * cosine(query, means)
        return without_absent(logits, present)
