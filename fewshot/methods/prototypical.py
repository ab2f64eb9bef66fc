"""Prototypical Networks."""

from torch import Tensor

from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import prototypes, squared_euclidean, without_absent


@METHODS.register("protonet")
class PrototypicalNetwork(Method):
    """Each class is the mean of its support features; a query belongs to the nearest mean.

    Snell, Swersky, Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
    https://arxiv.org/abs/1703.05175, equations 1 and 2. Logits are negated squared Euclidean
    distances, summed over the feature's dimensions and not scaled, as in the authors' code.
    With a cosine in their place it is "meta-baseline".

    Differs from the paper: none known.
    """

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        return without_absent(-squared_euclidean(query, means), present)
