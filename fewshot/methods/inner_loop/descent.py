"""Gradient descent on the support sets of many tasks at once, differentiable: the inner loop of MAML and ANIL."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, EpisodeError
from fewshot.methods.base import Method
from fewshot.sampling.episodes import PADDING

Reduction = Literal["sum/K", "mean"]
Weights = dict[str, Tensor]  # by name, each with a leading task dimension T


class InnerLoopMethod(Method):
    """A method that a few steps of gradient descent on the support adapt to each episode.

    Its classifier has `n_way` outputs, of which an episode uses those of its classes.
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
        self.inner_steps, self.test_inner_steps, self._transductive = inner_steps, test_inner_steps, transductive

    @property
    def transductive(self) -> bool:
        """Whether queries are normalised by their own statistics."""
        return self._transductive

    @property
    def steps(self) -> int:
        """How many steps adapt now: in training, or at test."""
        return self.inner_steps if self.training else self.test_inner_steps

    def find_present_classes(self, labels: Tensor, n_way: int) -> Tensor:
        """Which of the classifier's classes each task's support (T, n_support) has, (T, self.n_way) bool."""
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
    """`weights` after `steps` steps of gradient descent on `loss`, the sum of the tasks' own losses.

    `rates`: one learning rate, or a tensor for each weight, without the task dimension. With `learning`
    the result is a function of the initial weights and rates: through the gradients too with `order` 2,
    as if they were constants with `order` 1, which builds no graph of them. Without it they are constants.
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
    """Sum over T tasks of their support losses, a scalar.

    `logits` (T, n_support, classes), `labels` (T, n_support) with -1 for padding, `present` (T, classes).
    A task's cross-entropy is summed over its support and divided by its mean number of shots ("sum/K"),
    or averaged.
    """
    logits = logits.masked_fill(~present[:, None], -torch.inf)
    summed = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PADDING, reduction="none").sum(1)  # (T,)
    images = (labels != PADDING).sum(1).to(summed.dtype)
    return (summed / (images / present.sum(1) if reduction == "sum/K" else images)).sum()


class WithGradients(torch.autograd.Function):
    """A loss whose gradients are known already: what the groups of a meta-batch summed up."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(upstream * gradient for gradient in ctx.gradients)
