"""L2-regularised softmax regression, solved to convergence for a batch of episodes at once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import TrainingError
from fewshot.sampling.episodes import PADDING

TOLERANCE = 1e-6  # error of the weights relative to their length
ROUNDING = 1e-11  # |gradient| / √objective that rounding in float64 causes, for instance with equal images
FORCING = 0.1  # conjugate gradients stop at this fraction of the slope, near the solution at a smaller one
MAX_NEWTON_STEPS = 100
MAX_CG_STEPS = 200
MOST_BYTES = 1 << 29  # features in float64 and Gram matrices of the episodes that are solved at once
SHORTEST = 2.0**-20  # shortest step of the line search, as a fraction of a Newton step


@torch.no_grad()
def fit_softmax_regression(support: Tensor, labels: Tensor, n_way: int, c: float = 1.0) -> tuple[Tensor, Tensor]:
    """Minimise ½|weight|² + c · the sum of cross-entropies, for each of B episodes.

    The bias is not penalised, and sums to zero over the classes of an episode: scikit-learn's LogisticRegression with
    C = `c` and three or more classes. (For two classes it fits one weight vector: this problem with half of C.)

    This is Newton's method in float64 with a line search; its equations are solved by conjugate gradients. It works on
    the Gram matrix of the support, so that time does not grow with the number of features, or on its factors where
    these are smaller. An episode has converged if |gradient| <= `TOLERANCE` · |weight|. Since the curvature of the
    objective in the weight is at least 1, this bounds the relative error of the weight.

    Args:
        support: features (B, n_support, D).
        labels: (B, n_support) in 0..n_way-1, or -1 for padding.
        n_way: classes of an episode.
        c: weight of the cross-entropies relative to the penalty.

    Returns:
        Weight (B, n_way, D) and bias (B, n_way); both are zero for a class without support.

    Raises:
        TrainingError: if any episode has not converged after `MAX_NEWTON_STEPS`.
    """
    n_support, n_features = support.shape[1:]
    factored = n_support > 2 * n_features
    at_once = max(1, MOST_BYTES // max(1, 8 * n_support * (n_features + (0 if factored else n_support))))
    if len(support) > at_once:
        parts = zip(support.split(at_once), labels.split(at_once), strict=True)
        weights, biases = zip(*(fit_softmax_regression(*part, n_way, c) for part in parts), strict=True)
        return torch.cat(weights), torch.cat(biases)
    real = (labels != PADDING)[..., None]
    x = support.double().masked_fill(~real, 0)
    mean = x.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
    x = (x - mean).masked_fill(~real, 0)  # the bias compensates this; weight and bias are then nearly independent
    dual, bias, present = solve(_Factored(x) if factored else x @ x.mT, labels, n_way, c)
    weight = dual.mT @ x  # (B, n_way, D)
    bias = bias - (weight @ mean.mT).mT  # (B, 1, n_way)
    bias = (bias - bias.sum(2, keepdim=True) / present.sum(2, keepdim=True).clamp_min(1)).masked_fill(~present, 0)
    return weight.to(support), bias[:, 0].to(support)


def solve(gram: "Tensor | _Factored", labels: Tensor, n_way: int, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """Fit to inner products (B, n_support, n_support) of features about the mean of their episode, 0 for padding.

    Returns coefficients (B, n_support, n_way), biases and which classes have support, (B, 1, n_way).
    """
    targets = F.one_hot(labels + 1, n_way + 1)[..., 1:].double()  # (B, n_support, n_way)
    present = targets.any(1, keepdim=True)  # (B, 1, n_way)
    absent = torch.zeros_like(targets[:, :1]).masked_fill(~present & present.any(2, keepdim=True), -torch.inf)
    return *_newton(_Problem(gram, targets, c, absent)), present


class _Factored:
    """The Gram matrix of features x (B, n_support, D) as x xᵀ, which is less work where there are few features."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __getitem__(self, rows: Tensor) -> "_Factored":
        return _Factored(self.x[rows])

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.x @ (self.x.mT @ other)


@dataclass
class _Point:
    """Weight and bias of B episodes, or a slope or direction of both, and the scores of the weight on the support."""

    dual: Tensor  # (B, n_support, n_way): the weight is dualᵀ x
    image: Tensor  # (B, n_support, n_way): gram @ dual
    bias: Tensor  # (B, 1, n_way)

    def __getitem__(self, rows: Tensor) -> "_Point":
        return _Point(self.dual[rows], self.image[rows], self.bias[rows])

    def add(self, other: "_Point", factor: Tensor) -> "_Point":
        """Add `factor` (B, 1, 1) times the other point."""
        return _Point(
            torch.addcmul(self.dual, other.dual, factor),
            torch.addcmul(self.image, other.image, factor),
            torch.addcmul(self.bias, other.bias, factor),
        )

    def dot_weight(self, other: "_Point") -> Tensor:
        """Compute inner products (B, 1, 1) of the weights."""
        return (self.dual * other.image).sum((1, 2), keepdim=True)

    def dot(self, other: "_Point") -> Tensor:
        """Compute inner products (B, 1, 1) of weights and biases."""
        return self.dot_weight(other) + (self.bias * other.bias).sum(2, keepdim=True)


@dataclass
class _Local:
    """The derivatives of the objective at a point of B episodes."""

    slope: _Point  # minus the gradient
    p: Tensor  # (B, n_support, n_way): probabilities, 0 for padding
    wrong: Tensor  # `p` of the wrong classes, 0 for the right one
    unit: Tensor  # (B, 1, n_way): unit of the biases in slopes and steps, in which their curvature is 1

    def __getitem__(self, rows: Tensor) -> "_Local":
        return _Local(self.slope[rows], self.p[rows], self.wrong[rows], self.unit[rows])


@dataclass
class _Problem:
    """The objective of B episodes, and the steps of Newton's method.

    Values of the right class are computed from those of the others, since 1 − p loses its digits if p is almost 1.
    """

    gram: Tensor | _Factored  # (B, n_support, n_support)
    targets: Tensor  # (B, n_support, n_way), zero for padding
    c: float
    absent: Tensor  # (B, 1, n_way): 0, or −inf for classes without support

    def __getitem__(self, rows: Tensor) -> "_Problem":
        return _Problem(self.gram[rows], self.targets[rows], self.c, self.absent[rows])

    def objective(self, scores: Tensor, square: Tensor) -> Tensor:
        """Compute ½|weight|² + c · cross-entropies, (B, 1, 1), from scores and |weight|² `square` (B, 1, 1)."""
        others = (scores + self.absent).masked_fill(self.targets > 0, -torch.inf).logsumexp(-1, keepdim=True)
        right = (scores * self.targets).sum(-1, keepdim=True)  # (B, n_support, 1)
        losses = F.softplus(others - right, threshold=40.0) * self.targets.sum(-1, keepdim=True)
        return square / 2 + self.c * losses.sum(1, keepdim=True)

    def linearise(self, at: _Point) -> _Local:
        p = (at.image + at.bias + self.absent).softmax(-1) * self.targets.sum(-1, keepdim=True)
        wrong = p * (1 - self.targets)
        residual = self.c * (self.targets * wrong.sum(-1, keepdim=True) - wrong)
        unit = (self.c * (p * (1 - p)).sum(1, keepdim=True)).clamp_min(1e-12).rsqrt()
        dual = residual - at.dual
        return _Local(_Point(dual, self.gram @ dual, residual.sum(1, keepdim=True) * unit), p, wrong, unit)

    def curvature(self, local: _Local, direction: _Point) -> _Point:
        """Multiply the Hessian by a direction."""
        scores = direction.image + direction.bias * local.unit
        curved = local.wrong * (scores - (local.p * scores).sum(-1, keepdim=True))  # (B, n_support, n_way)
        curved = self.c * torch.addcmul(curved, self.targets, curved.sum(-1, keepdim=True), value=-1)
        dual = direction.dual + curved
        return _Point(dual, self.gram @ dual, curved.sum(1, keepdim=True) * local.unit)

    def newton_step(self, local: _Local, share: Tensor) -> _Point:
        """Solve Hessian · step = slope by conjugate gradients, until |residual| <= `share` (B, 1, 1) · |slope|."""
        residual = direction = local.slope
        step = _Point(*(torch.zeros_like(part) for part in (residual.dual, residual.image, residual.bias)))
        square = residual.dot(residual)
        enough = square * share.square()
        for _ in range(MAX_CG_STEPS):
            running = square > enough
            if not running.any():
                break
            product = self.curvature(local, direction)
            factor = torch.where(running, square / direction.dot(product), 0)
            step, residual = step.add(direction, factor), residual.add(product, -factor)
            before, square = square, residual.dot(residual)
            direction = residual.add(direction, torch.where(running, square / before, 0))
        return _Point(step.dual, self.gram @ step.dual, step.bias)  # recomputed, since rounding errors add up

    def search(self, at: _Point, step: _Point, slope: Tensor, here: Tensor) -> tuple[_Point, Tensor]:
        """Take the longest of the steps 1, ½, ¼, … that lowers the objective `here` (B, 1, 1) as `slope` predicts.

        Also returns which episodes (B,) found such a step: the others are at the minimum within the precision of
        float64.
        """
        length = torch.ones_like(here)
        across, square, own = at.dot_weight(step), step.dot_weight(step), at.dot_weight(at)
        scores, along = at.image + at.bias, step.image + step.bias
        while True:
            there = self.objective(scores + length * along, own + length * (2 * across + length * square))
            enough = there <= here - 1e-4 * length * slope + 1e-14 * here
            if (enough | (length <= SHORTEST)).all():
                break
            length = torch.where(enough, length, length / 2)
        moved = at.add(step, length)
        return _Point(moved.dual, self.gram @ moved.dual, moved.bias), (length > SHORTEST).flatten()


def _newton(problem: _Problem) -> tuple[Tensor, Tensor]:
    """Find the minimum: coefficients (B, n_support, n_way), biases (B, 1, n_way); converged episodes are removed."""
    targets = problem.targets
    rows = torch.arange(len(targets), device=targets.device)
    at = _Point(torch.zeros_like(targets), torch.zeros_like(targets), torch.zeros_like(targets[:, :1]))
    dual, bias = at.dual.clone(), at.bias.clone()
    moving = torch.ones_like(rows, dtype=torch.bool)
    for _ in range(MAX_NEWTON_STEPS):
        local, own = problem.linearise(at), at.dot_weight(at)
        here = problem.objective(at.image + at.bias, own)
        gradient = local.slope.dot(local.slope)
        small = (gradient <= TOLERANCE**2 * own) | (gradient <= ROUNDING**2 * here)
        done = small.flatten() | (~moving & here.isfinite().flatten())
        if done.any():
            dual[rows[done]], bias[rows[done]] = at.dual[done], at.bias[done]
            left = ~done
            rows = rows[left]
            if not len(rows):
                return dual, bias
            problem, at, local, own, here, gradient = (part[left] for part in (problem, at, local, own, here, gradient))
        share = (gradient / own).sqrt().clamp_max(FORCING)  # own is 0 at first: infinite, then clamped
        step = problem.newton_step(local, share)
        promise = local.slope.dot(step)
        step.bias = step.bias * local.unit
        at, moving = problem.search(at, step, promise, here)
    raise TrainingError(
        f"softmax regression: {len(rows)} of {len(targets)} episodes have not converged after {MAX_NEWTON_STEPS} "
        f"Newton steps (c = {problem.c}); are all features finite?"
    )
