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
    """MAML that adapts the linear classifier only; the features stay as they are.

    Args:
        backbone: makes the features of images; None where features are given.
        n_way: the largest number of classes of an episode; the classifier has so many outputs.
        order: 2 differentiates through the inner gradients; 1 takes them as constants and never builds their graph.
        inner_steps: gradient steps on the support set.
        test_inner_steps: gradient steps at validation and test (default: inner_steps).
        inner_lr: learning rate of these steps.
        inner_reduction: the inner loss is summed over the support images and divided by the shots K ("sum/K", the
            authors' code; K is the mean number of shots where they differ) or averaged ("mean": n_way times smaller).
        learn_inner_lr: a learning rate of its own for every adapted weight, meta-learned (Meta-SGD, Li et al. 2017,
            https://arxiv.org/abs/1707.09835).
        transductive: batch normalisation by the statistics of support and queries together, in training too.
        support_statistics: at test, batch normalisation of support and queries by the statistics of the support.
        feature_dim: dimensions of the features (default: the backbone's own).

    Raghu, Raghu, Bengio, Vinyals, Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
    of MAML, ICLR 2020, https://arxiv.org/abs/1909.09157, section 4. Options as in `MAML`.

    Since the features do not change, running statistics are right for them: by default the backbone's batch
    normalisation works as in any network, and an image is embedded once for all episodes. Otherwise each
    episode has its own at test: `support_statistics=True` normalises support and queries by those of the
    support, so that no query depends on another, as `MAML` does; `transductive=True` by those of support and
    queries together, in training too, as implementations of the paper do. Which is better depends on the
    data: see docs/results/omniglot.md.

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
        super().__init__(backbone, "anil", n_way, order, inner_steps, test_inner_steps, inner_reduction, transductive)
        dim = feature_dim if backbone is None else backbone.feature_dim
        if dim is None:
            raise ConfigError("anil without a backbone needs feature_dim, the size of the features it is given")
        if transductive and support_statistics:
            raise ConfigError("anil: statistics are the support's or, transductive, those of all images, not both")
        if backbone is not None and (transductive or support_statistics):
            refuse_other_statistics(backbone, "anil")
        self.support_statistics = support_statistics
        self.classifier = nn.Linear(dim, n_way)
        weights = (self.classifier.weight, self.classifier.bias)
        self.inner_lr = inner_lr
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
        """Logits (B, n_query, n_way) of images (B, n, C, H, W), or of features without a backbone."""
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
            return inner_loss(_logits(support, weights), support_labels, present, self.inner_reduction)

        initial = {"weight": self.classifier.weight, "bias": self.classifier.bias}
        weights = {name: weight.expand(len(support), *weight.shape) for name, weight in initial.items()}
        rates = list(self.inner_rates) or self.inner_lr
        weights = descend(loss, weights, rates, self.steps, self.order, learning=torch.is_grad_enabled())
        return mask_absent(_logits(query, weights), present)[..., :n_way]


def _logits(features: Tensor, weights: Weights) -> Tensor:
    """(B, n, classes) of features (B, n, D) and a classifier per episode."""
    return torch.baddbmm(weights["bias"][:, None], features, weights["weight"].transpose(1, 2))
