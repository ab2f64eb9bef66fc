"""Nearest neighbours among the support images of an episode."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import cosine, squared_euclidean


@METHODS.register("nearest")
class NearestNeighbours(Method):
    """A query belongs to the class of its nearest support image, or to the majority of its `k` nearest.

    Args:
        backbone: computes the features of images; None if features are given.
        k: number of support images that vote.
        metric: "euclidean" (logits and ties use its square) or "cosine" (1 − cosine similarity).

    Fix, Hodges, Discriminatory Analysis: Nonparametric Discrimination, 1951 (reprinted
    https://doi.org/10.2307/1403797).
    With k = 1 a class's logit is the negated distance to its nearest support image. With k > 1 it is
    the class's number of votes minus a fraction below a half, which is proportional to that distance, so that of equal
    votes the class with the nearer image wins.

    Differs from the textbook: support images at exactly the distance of the k-th vote too, so that the answer does
    not depend on the order of the support; in an episode with fewer than k images all of them vote.
    """

    label, family = "Nearest", "two-stage"
    published, colour = True, "#7F7F7F"

    def __init__(
        self, backbone: nn.Module | None, k: int = 1, metric: Literal["euclidean", "cosine"] = "euclidean"
    ) -> None:
        super().__init__(backbone)
        if k < 1:
            raise ConfigError(f"nearest: k must be at least 1, got {k}")
        if metric not in ("euclidean", "cosine"):
            raise ConfigError(f"nearest: metric is euclidean or cosine, got {metric!r}")
        self.k, self.metric = k, metric

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        padding = support_labels < 0  # (B, n_support)
        support = support.masked_fill(padding[..., None], 0.0)  # padding may contain nan
        euclidean = self.metric == "euclidean"
        distances = squared_euclidean(query, support) if euclidean else (1 - cosine(query, support)).clamp_min(0)
        distances = distances.masked_fill(padding[:, None], torch.inf)  # (B, n_query, n_support)
        nearest = find_nearest_of_class(distances, support_labels, n_way)  # (B, n_query, n_way)
        if self.k == 1:
            return -nearest
        greatest = nearest.detach().masked_fill(nearest.isinf(), 0.0).amax(-1, keepdim=True)
        greatest = greatest.clamp_min(torch.finfo(nearest.dtype).tiny)
        fraction = nearest / (2.1 * greatest)  # in [0, 1/2), inf for a class without images
        return self._count_votes(distances, support_labels, n_way) - fraction

    def _count_votes(self, distances: Tensor, labels: Tensor, n_way: int) -> Tensor:
        """Count the images of each class among the nearest ones of each query, (B, n_query, n_way)."""
        k = min(self.k, distances.shape[2])
        furthest = distances.topk(k, largest=False).values.amax(-1, keepdim=True)  # (B, n_query, 1)
        member = F.one_hot(labels + 1, n_way + 1)[..., 1:].to(distances.dtype)  # zeros for padding
        return (distances <= furthest).to(distances.dtype) @ member


def find_nearest_of_class(distances: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Find the smallest of `distances` (B, n_query, n_support) to the images of each class, (B, n_query, n_way).

    `labels` (B, n_support), −1 for padding. The result for a class without images is inf.
    """
    least = distances.new_full((*distances.shape[:2], n_way + 1), torch.inf)
    index = (labels + 1)[:, None].expand_as(distances)
    return least.scatter_reduce(2, index, distances, "amin")[..., 1:]
