"""Heads that are solved for: softmax and ridge regression on features, by numpy alone."""

import numpy as np

from fewshot.errors import TrainingError

TOLERANCE = 1e-8  # of the weights, relative to their length
ROUNDING = 1e-11  # |gradient| / √objective where float64 can do no better, for instance on equal images
FORCING = 0.1  # conjugate gradients leave at most this share of the slope
MAX_NEWTON_STEPS = 100
MAX_CG_STEPS = 200
MAX_HALVINGS = 20


def fit_softmax_regression(
    support: np.ndarray, labels: np.ndarray, n_classes: int, c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise ½|weight|² + c · the sum of cross-entropies; the bias is not penalised and sums to zero.

    The problem that `fewshot.methods.solvers.softmax_regression` solves for batches of episodes. Here it is one, in
    coordinates of the span of the support (n, D), where the number of features costs nothing more.
    Returns weight (n_classes, D) and bias (n_classes,).
    """
    x = support.astype(np.float64)
    mean = x.mean(0)
    u, lengths, axes = np.linalg.svd(x - mean, full_matrices=False)
    weight, bias = _minimise(u * lengths, np.eye(n_classes)[labels], c)
    weight = weight @ axes
    bias = bias - weight @ mean
    return weight, bias - bias.mean()


def fit_ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """W (D, m) that minimises |`inputs` W − `targets`|² + `penalty` |W|², of inputs (n, D) and targets (n, m)."""
    x = inputs.astype(np.float64)
    if len(x) < x.shape[1]:
        return x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), targets)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)


def _minimise(x: np.ndarray, targets: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method with a line search; weight (k, r) and bias (k,) on x (n, r), targets (n, k)."""
    weight, bias = np.zeros((targets.shape[1], x.shape[1])), np.zeros(targets.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        here = _objective(x, targets, c, weight, bias)
        slope, curvature, unit = _linearise(x, targets, c, weight, bias)
        gradient, length = np.linalg.norm(slope), np.linalg.norm(weight)
        if gradient <= TOLERANCE * length or gradient <= ROUNDING * np.sqrt(here):
            return weight, bias
        share = min(FORCING, np.sqrt(gradient / length)) if length else FORCING
        step = _solve(curvature, slope, share)
        promise = float((slope * step).sum())
        step[:, -1] *= unit
        factor = 1.0
        for _ in range(MAX_HALVINGS):
            there = _objective(x, targets, c, weight + factor * step[:, :-1], bias + factor * step[:, -1])
            if there <= here - 1e-4 * factor * promise + 1e-14 * here:
                break
            factor /= 2
        else:  # float64 cannot tell the points on the way from the minimum
            return weight, bias
        weight, bias = weight + factor * step[:, :-1], bias + factor * step[:, -1]
    raise TrainingError(
        f"softmax regression has not converged after {MAX_NEWTON_STEPS} steps: are all features finite?"
    )


def _objective(x: np.ndarray, targets: np.ndarray, c: float, weight: np.ndarray, bias: np.ndarray) -> float:
    scores = x @ weight.T + bias
    highest = scores.max(1, keepdims=True)
    losses = np.log(np.exp(scores - highest).sum(1)) + highest[:, 0] - (scores * targets).sum(1)
    return float((weight**2).sum() / 2 + c * losses.sum())


def _linearise(x, targets, c, weight, bias):  # type: ignore[no-untyped-def]
    """Minus the gradient (k, r + 1), the Hessian as a function of a direction, and the unit (k,) of the biases.

    What belongs to the right class is computed from the others: 1 − p has lost its digits where p is almost 1.
    """
    scores = x @ weight.T + bias
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    wrong = p * (1 - targets)
    residual = c * (targets * wrong.sum(1, keepdims=True) - wrong)
    unit = 1 / np.sqrt(np.maximum(c * (p * (1 - p)).sum(0), 1e-12))

    def curvature(direction: np.ndarray) -> np.ndarray:
        along = x @ direction[:, :-1].T + direction[:, -1] * unit
        curved = wrong * (along - (p * along).sum(1, keepdims=True))
        curved = c * (curved - targets * curved.sum(1, keepdims=True))
        return np.column_stack([curved.T @ x + direction[:, :-1], curved.sum(0) * unit])

    return np.column_stack([residual.T @ x - weight, residual.sum(0) * unit]), curvature, unit


def _solve(curvature, slope: np.ndarray, share: float) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Conjugate gradients on `curvature(step)` = `slope`, until |residual| <= `share` · |slope|."""
    step, residual, direction = np.zeros_like(slope), slope, slope
    square = float((slope**2).sum())
    enough = square * share**2
    for _ in range(MAX_CG_STEPS):
        if square <= enough:
            break
        product = curvature(direction)
        factor = square / float((direction * product).sum())
        step, residual = step + factor * direction, residual - factor * product
        before, square = square, float((residual**2).sum())
        direction = residual + square / before * direction
    return step
