"""Prototypical Networks."""

from torch import Tensor, nn

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent, prototypes, squared_euclidean


@METHODS.register("protonet")
class PrototypicalNetwork(Method):
    """Each class is the mean of its support features; a query belongs to the nearest mean.

    Args:
        backbone: computes the features of images; None if features are given.
        temperature: divides the distances, in training and at test.

    Snell, Swersky, Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
    https://arxiv.org/abs/1703.05175, equations 1 and 2. Logits are negated squared Euclidean
    distances, summed over the feature's dimensions and not scaled, as in the authors' code.
    The same head with cosines is "meta-baseline".

    `temperature` does not change predictions, but it changes gradients. Distances grow with the number of dimensions:
    the paper's 64 at 28 px train well without it, but with 256 at 32 px or 1600 at 84 px (Conv-4) the softmax may be
    saturated from the first step, which makes learning slow: Oreshkin et al. 2018 (TADAM),
    https://arxiv.org/abs/1805.10123, section 3.1, whose scale is 1 / temperature.

    Differs from the paper: none known at temperature 1, the default.
    """

    label, family = "ProtoNet", "episodic"
    published, colour = True, "#0072B2"

    def __init__(self, backbone: nn.Module | None, temperature: float = 1.0) -> None:
        super().__init__(backbone)
        if not temperature > 0:
            raise ConfigError(f"protonet: temperature divides distances, it must be positive, got {temperature}")
        self.temperature = temperature

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        return mask_absent(-squared_euclidean(query, means) / self.temperature, present)
