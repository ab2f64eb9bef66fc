"""MAML by learn2learn's wrapper, an independent implementation with which ours is compared."""

import importlib
import warnings
from contextlib import nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from fewshot.errors import FewShotError
from fewshot.methods.base import METHODS
from fewshot.methods.context import EpisodeContext, get_query_mask
from fewshot.methods.distances import mask_absent
from fewshot.methods.inner_loop.descent import InnerLoopMethod, Reduction, inner_loss
from fewshot.methods.inner_loop.episode_statistics import refuse_other_statistics
from fewshot.methods.inner_loop.second_derivatives import TwiceDifferentiable, use_differentiable_attention
from fewshot.sampling.episodes import PADDING

NAME = "maml-learn2learn"


@METHODS.register(NAME)
class Learn2LearnMAML(InnerLoopMethod):
    """`learn2learn.algorithms.MAML` around the backbone and a linear classifier, one episode after the other.

    Its options are those of `InnerLoopMethod`; it is always transductive.

    Args:
        backbone: the network that is adapted.

    Finn, Abbeel, Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML 2017,
    https://arxiv.org/abs/1703.03400; Arnold, Mahajan, Datta, Bunner, Zarkias, learn2learn: A Library for Meta-Learning
    Research, 2020, https://arxiv.org/abs/2008.12284. The method "maml" is faster. `make learn2learn` installs the
    library; without it the constructor raises `FewShotError`.

    Each pass normalises by the statistics of its batch, in training and at test: those of the support during
    adaptation, then those of the queries, so the logits of a query depend on the other queries. Running statistics are
    neither used nor changed. The classifier's initial weights are learned for each label, so logits depend on which
    class is given which label.

    Differs from the paper: every weight is adapted, those of batch normalisation too (the authors' code
    leaves them out); the classifier starts as PyTorch's linear layers do (the authors draw from N(0, 1) on
    Omniglot).
    """

    label = "MAML by learn2learn"
    needs_network = True
    requires = "learn2learn"

    def __init__(
        self,
        backbone: nn.Module | None,
        n_way: int = 5,
        order: Literal[1, 2] = 2,
        inner_steps: int = 1,
        test_inner_steps: int | None = None,
        inner_lr: float = 0.4,  # with sum/K, on Omniglot: the paper, appendix A.1
        inner_reduction: Reduction = "sum/K",
    ) -> None:
        super().__init__(backbone, NAME, n_way, order, inner_steps, test_inner_steps, inner_lr, inner_reduction, True)
        refuse_other_statistics(backbone, NAME)
        _load_wrapper()  # fails now, before data are loaded, if learn2learn is not installed
        self.classifier = nn.Linear(backbone.feature_dim, n_way)

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Compute logits (B, n_query, n_way) from images (B, n, C, H, W), with a graph if gradients are on."""
        present = self.find_present_classes(support_labels, n_way)  # (B, self.n_way)
        learning = torch.is_grad_enabled()
        mask = get_query_mask(context)
        masks = [None] * len(query) if mask is None else mask
        episodes = zip(support, support_labels, query, masks, present, strict=True)
        twice = learning and self.order == 2
        attention = use_differentiable_attention() if twice else nullcontext()
        with torch.enable_grad(), attention, TwiceDifferentiable() if twice else nullcontext():  # at test too
            logits = [self._adapt_and_answer(*episode, learning) for episode in episodes]
        return torch.cat(logits)[..., :n_way]

    def adapt(self, support: Tensor, support_labels: Tensor, present: Tensor, learning: bool = True) -> nn.Module:
        """Adapt learn2learn's copy of the network to the support (n_support, C, H, W) of one episode.

        `present` (self.n_way,): the classes of the episode. Without `learning` no graph leads back to the method.
        """
        images, labels = support[support_labels != PADDING], support_labels[support_labels != PADDING]
        network = nn.Sequential(self.backbone, self.classifier)
        first_order = not learning or self.order == 1
        learner = _load_wrapper()(network, self.inner_lr, first_order, allow_nograd=True).clone()
        _use_batch_statistics(learner)
        for _ in range(self.steps):
            logits = self._cast_to_weights(learner(images))[None]  # (1, n_support, self.n_way)
            learner.adapt(inner_loss(logits, labels[None], present[None], self.inner_reduction))
        return learner

    def _adapt_and_answer(
        self,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        mask: Tensor | None,
        present: Tensor,
        learning: bool,
    ) -> Tensor:
        """Compute logits (1, n_query, self.n_way) of an episode; `mask` (n_query,) or None, `present` (self.n_way,)."""
        learner = self.adapt(support, labels, present, learning)
        logits = self._cast_to_weights(learner(query if mask is None else query[mask]))
        if mask is not None:  # padding has logits of 0
            logits = logits.new_zeros(len(query), logits.shape[1]).index_put((mask,), logits)
        logits = mask_absent(logits[None], present[None])
        return logits if learning else logits.detach()

    def _cast_to_weights(self, logits: Tensor) -> Tensor:
        """Convert logits, which autocast may have made bfloat16, to the precision of the weights."""
        return logits.to(self.classifier.weight.dtype)


def _use_batch_statistics(learner: nn.Module) -> None:
    """Remove the running statistics of a clone, so that its normalisation layers use batch statistics in either mode.

    The layers of `learner` are copies that share tensors with those of the method. They are put into evaluation mode
    because synchronised layers would otherwise average over the episodes of several processes.
    """
    for module in learner.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()
            module.running_mean = module.running_var = module.num_batches_tracked = None


@cache
def _load_wrapper() -> type[nn.Module]:
    """Import `learn2learn.algorithms.MAML`; deprecation warnings of it and of gym, which it imports, are ignored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("learn2learn").algorithms.MAML
    except ImportError as error:
        raise FewShotError(f"{NAME} needs learn2learn, which `make learn2learn` installs ({error})") from error
