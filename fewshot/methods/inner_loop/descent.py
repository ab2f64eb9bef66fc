"""The inner loop of MAML and ANIL: differentiable gradient descent on the support sets of many tasks at once."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, EpisodeError
from fewshot.methods.base import Method
from fewshot.sampling.episodes import PADDING

Reduction = Literal["sum/K", "mean"]
Weights = dict[str, Tensor]  # by name; each tensor has a leading task dimension T


class InnerLoopMethod(Method):
    """A method that is adapted to each episode by a few steps of gradient descent on the support set.

    Args:
        backbone: maps images (n, C, H, W) to features (n, D).
        name: the name under which the method is registered, for messages.
        n_way: the largest number of classes of an episode, which is the number of outputs of the classifier; an episode
            uses the outputs of its classes.
        order: 2 differentiates through the inner gradients; 1 takes them as constants and never builds their graph.
        inner_steps: gradient steps on the support set.
        test_inner_steps: gradient steps at validation and test (default: inner_steps).
        inner_lr: learning rate of these steps.
        inner_reduction: the inner loss is summed over the support images and divided by the number of shots K ("sum/K",
            as in the authors' code; if shots differ, K is their mean), or averaged ("mean", which is n_way times
            smaller).
        transductive: whether queries are normalised by their own statistics.
    """

    family = "adapted"
    learned_classes = True

    def __init__(
        self,
        backbone: nn.Module | None,
        name: str,
        n_way: int,
        order: int,
        inner_steps: int,
        test_inner_steps: int | None,
        inner_lr: float,
        inner_reduction: Reduction,
        transductive: bool,
    ) -> None:
        super().__init__(backbone)
        test_inner_steps = inner_steps if test_inner_steps is None else test_inner_steps
        steps = min(inner_steps, test_inner_steps)
        if order not in (1, 2):
            raise ConfigError(f"{name}: order is 1 (first-order gradients) or 2, got {order!r}")
        if n_way < 2 or steps < 1:
            raise ConfigError(f"{name}: n_way is at least 2 and inner steps at least 1, got {n_way} and {steps}")
        if inner_reduction not in ("sum/K", "mean"):
            raise ConfigError(f"{name}: inner_reduction is sum/K or mean, got {inner_reduction!r}")
        self.name, self.n_way, self.order, self.inner_reduction = name, n_way, order, inner_reduction
        self.inner_steps, self.test_inner_steps, self.inner_lr = inner_steps, test_inner_steps, inner_lr
        self._transductive = transductive

    @property
    def transductive(self) -> bool:
        """Whether queries are normalised by their own statistics."""
        return self._transductive

    @property
    def steps(self) -> int:
        """Number of inner steps in the current mode, training or test."""
        return self.inner_steps if self.training else self.test_inner_steps

    def find_present_classes(self, labels: Tensor, n_way: int) -> Tensor:
        """Find which classes occur in each task's support labels (T, n_support), (T, self.n_way) bool."""
        if n_way > self.n_way:
            raise EpisodeError(
                f"an episode of {n_way} classes does not fit {self.name}'s classifier, "
                f"which was made for n_way={self.n_way}"
            )
        return F.one_hot(labels + 1, self.n_way + 1)[..., 1:].any(1)


def descend(
    loss: Callable[[Weights], Tensor],
    weights: Weights,
    rates: list[Tensor] | float,
    steps: int,
    order: int,
    learning: bool,
) -> Weights:
    """Take `steps` steps of gradient descent from `weights` on `loss`, the sum of the losses of all tasks.

    `rates`: one learning rate, or a tensor for each weight, without the task dimension. With `learning` the result can
    be differentiated in the initial weights and rates: with `order` 2 also through the inner gradients, with `order` 1
    as if these were constants. Without `learning` the result is a constant.
    """
    with torch.enable_grad():
        for _ in range(steps):
            if not learning:
                weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            gradients = torch.autograd.grad(
                loss(weights), list(weights.values()), create_graph=learning and order == 2, materialize_grads=True
            )  # zeros for weights that the network does not use
            each = rates if isinstance(rates, list) else [rates] * len(weights)
            moves = zip(weights.items(), gradients, each, strict=True)
            weights = {name: weight - rate * gradient for (name, weight), gradient, rate in moves}
    return weights if learning else {name: weight.detach() for name, weight in weights.items()}


def inner_loss(logits: Tensor, labels: Tensor, present: Tensor, reduction: Reduction) -> Tensor:
    """Compute the sum of the support losses of T tasks, a scalar.

    `logits` (T, n_support, classes), `labels` (T, n_support) with -1 for padding, `present` (T, classes). The
    cross-entropy of a task is summed over its support and divided by its mean number of shots ("sum/K"), or averaged.
    """
    logits = logits.masked_fill(~present[:, None], -torch.inf)
    summed = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PADDING, reduction="none").sum(1)  # (T,)
    images = (labels != PADDING).sum(1).to(summed.dtype)
    return (summed / (images / present.sum(1) if reduction == "sum/K" else images)).sum()


class WithGradients(torch.autograd.Function):
    """A loss whose gradients were computed before, as the sum over the groups of a meta-batch."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)
