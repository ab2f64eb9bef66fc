"""Almost No Inner Loop."""

from typing import Literal

import torch
from torch import Tensor, nn

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS
from fewshot.methods.context import EpisodeContext, get_query_mask
from fewshot.methods.distances import mask_absent
from fewshot.methods.inner_loop.descent import InnerLoopMethod, Reduction, Weights, descend, inner_loss
from fewshot.methods.inner_loop.episode_statistics import episode_statistics, refuse_other_statistics
from fewshot.sampling.episodes import PADDING


@METHODS.register("anil")
class ANIL(InnerLoopMethod):
    """MAML that adapts only the linear classifier; the features are not adapted.

    The options of the inner loop are those of `InnerLoopMethod`; the others are:

    Args:
        backbone: computes the features of images; None if features are given.
        learn_inner_lr: learn a rate for every adapted weight, as in `MAML`.
        transductive: normalise by the statistics of support and queries together, in training too.
        support_statistics: at test, normalise support and queries by the statistics of the support.
        feature_dim: dimensions of the features (default: the backbone's own).

    Raghu, Raghu, Bengio, Vinyals, Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
    of MAML, ICLR 2020, https://arxiv.org/abs/1909.09157, section 4.

    Since the features are not adapted, the backbone's batch normalisation uses running statistics by default, as in any
    network, and the features of an image are computed once for all episodes. Two options use the statistics of each
    episode instead. `support_statistics=True` uses those of the support at test, so that no query depends on another,
    as in `MAML`; `transductive=True` uses those of support and queries together, in training too, as implementations of
    the paper do. Which is better depends on the data: see docs/results/omniglot.md.

    Differs from the paper: `transductive` is off by default. In training its batch statistics are those of
    all episodes of a step together.
    """

    label = "ANIL"
    published, colour = True, "#6A3D9A"

    def __init__(
        self,
        backbone: nn.Module | None,
        n_way: int = 5,
        order: Literal[1, 2] = 2,
        inner_steps: int = 1,
        test_inner_steps: int | None = None,
        inner_lr: float = 0.4,
        inner_reduction: Reduction = "sum/K",
        learn_inner_lr: bool = False,
        transductive: bool = False,
        support_statistics: bool = False,
        feature_dim: int | None = None,
    ) -> None:
        super().__init__(
            backbone, "anil", n_way, order, inner_steps, test_inner_steps, inner_lr, inner_reduction, transductive
        )
        dim = feature_dim if backbone is None else backbone.feature_dim
        if dim is None:
            raise ConfigError("anil without a backbone needs feature_dim, the size of the features it is given")
        if transductive and support_statistics:
            raise ConfigError("anil: choose either support_statistics or transductive, not both")
        if backbone is not None and (transductive or support_statistics):
            refuse_other_statistics(backbone, "anil")
        self.support_statistics = support_statistics
        self.classifier = nn.Linear(dim, n_way)
        weights = (self.classifier.weight, self.classifier.bias)
        self.inner_rates = nn.ParameterList(torch.full_like(w, inner_lr) for w in weights if learn_inner_lr)

    @property
    def uses_features(self) -> bool:
        """Whether an image has the same features in every episode."""
        return not (self.transductive or self.support_statistics)

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Compute logits (B, n_query, n_way) from images (B, n, C, H, W), or from features without a backbone."""
        arguments = (support, support_labels, query, n_way)
        if self.uses_features or (self.training and not self.transductive):
            return super().forward(*arguments)
        mask = get_query_mask(context) if self.transductive else None
        if mask is None:
            mask = torch.full(query.shape[:2], self.transductive, device=query.device)
        counted = torch.cat([support_labels != PADDING, mask], 1)  # (B, n_support + n_query)
        with episode_statistics(self, counted.shape[0], counted.shape[1], counted):
            return super().forward(*arguments)

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        present = self.find_present_classes(support_labels, n_way)  # (B, self.n_way)

        def loss(weights: Weights) -> Tensor:
            return inner_loss(_compute_logits(support, weights), support_labels, present, self.inner_reduction)

        initial = {"weight": self.classifier.weight, "bias": self.classifier.bias}
        weights = {name: weight.expand(len(support), *weight.shape) for name, weight in initial.items()}
        rates = list(self.inner_rates) or self.inner_lr
        weights = descend(loss, weights, rates, self.steps, self.order, learning=torch.is_grad_enabled())
        return mask_absent(_compute_logits(query, weights), present)[..., :n_way]


def _compute_logits(features: Tensor, weights: Weights) -> Tensor:
    """Compute logits (B, n, classes) of features (B, n, D) by the classifier of each episode."""
    return torch.baddbmm(weights["bias"][:, None], features, weights["weight"].transpose(1, 2))
