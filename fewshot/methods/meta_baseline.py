"""Meta-Baseline; before training on episodes it is Classifier-Baseline."""

import torch
from torch import Tensor, nn

from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import cosine, mask_absent, prototypes


@METHODS.register("meta-baseline")
class MetaBaseline(Method):
    """The cosine between a query and each class's mean support feature, times a learned temperature.

    Args:
        backbone: computes the features of images; None if features are given.
        init_temperature: initial value of the learned factor of the cosine.

    Chen, Liu, Xu, Darrell, Wang, Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning,
    ICCV 2021, https://arxiv.org/abs/2003.04390; code https://github.com/yinboc/few-shot-meta-baseline,
    models/meta_baseline.py. The mean is of raw features; the mean and the query are then scaled to length 1.
    The temperature is a factor, which starts at 10 as in the authors' code.

    The same head on a backbone trained as a plain classifier, before episodes, is their
    Classifier-Baseline. Differs from the paper: none known.
    """

    label, family = "Meta-Baseline", "two-stage"
    published, colour = True, "#8E1B3A"

    def __init__(self, backbone: nn.Module | None, init_temperature: float = 10.0) -> None:
        super().__init__(backbone)
        self.temperature = nn.Parameter(torch.tensor(float(init_temperature)))

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        return mask_absent(self.temperature * cosine(query, means), present)
