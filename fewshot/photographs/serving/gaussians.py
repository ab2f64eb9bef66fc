"""Gaussians with one covariance in numpy: the head `gda`, and the densities of the cues of `aligned`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
CUE_SHRINKAGE = 0.3  # `fewshot.methods.cue_densities.SHRINKAGE`


def squared_euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute squared distances (n, m) between the rows of a (n, D) and b (m, D)."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


def average_classes(features: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Compute the mean feature of each class, (n_classes, D)."""
    return np.stack([features[labels == label].mean(0) for label in range(n_classes)])


def fit_gaussians(support: np.ndarray, labels: np.ndarray, n_classes: int, shrinkage: float | None) -> Arrays:
    """Fit the class means, and features that measure what the shared covariance takes from squared distances.

    With W the support images less their class's mean, the covariance is `scatter` · Wᵀ W + `identity` · I; by Woodbury
    its distances are those of the features less those of L⁻¹ W √ratio times them, over `identity`.
    """
    wide = support.astype(np.float64)
    means, (n_images, dim) = average_classes(wide, labels, n_classes), wide.shape
    within = wide - means[labels]
    trace, total = ((x**2).sum() for x in (within, wide - wide.mean(0)))
    tiny = np.finfo(np.float64).eps
    trace = max(trace if trace > tiny * total else total, tiny)
    if shrinkage is None:
        scatter, identity = 1 / dim, trace / (dim * max(n_images - 1, 1))
    else:
        scatter, identity = (1 - shrinkage) / n_images, shrinkage * trace / (dim * n_images)
    ratio = scatter / identity
    factor = np.linalg.cholesky(np.eye(n_images) + ratio * within @ within.T)
    return {
        "means": means,
        "within": math.sqrt(ratio) * np.linalg.solve(factor, within),
        "identity": np.array(identity),
    }


def score_gaussians(arrays: Arrays, queries: np.ndarray) -> np.ndarray:
    """Compute minus half the squared Mahalanobis distances of queries (n, D) to the class means, (n, n_classes)."""
    means, within = arrays["means"], arrays["within"]
    distances = squared_euclidean(queries, means) - squared_euclidean(queries @ within.T, means @ within.T)
    return -distances / (2 * arrays["identity"])


def fit_cues(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    """Fit the densities of cues, the last of the features (n, D), that the options of `aligned` ask for."""
    colours, sizes = _split_cues(support, options)
    arrays: Arrays = {}
    if options.get("colour_weight") and len(labels) > n_classes:  # else no class has two images
        fitted = fit_gaussians(colours, labels, n_classes, CUE_SHRINKAGE)
        arrays |= {f"colour_{name}": array for name, array in fitted.items()}
    if options.get("size_spread"):
        number = np.bincount(labels, minlength=n_classes)
        arrays |= {"size_means": average_classes(sizes, labels, n_classes), "size_wider": 1 + 1 / number}
    return arrays


def score_cues(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray | float:
    """Compute what the cues add to the logits, (n, n_classes)."""
    colours, sizes = _split_cues(queries, options)
    total: np.ndarray | float = 0.0
    if "colour_means" in arrays:
        fitted = {name: arrays[f"colour_{name}"] for name in ("means", "within", "identity")}
        total = total + options["colour_weight"] * score_gaussians(fitted, colours)
    if "size_means" in arrays:
        means, wider = arrays["size_means"], arrays["size_wider"]
        squared = ((sizes[:, None] - means) ** 2).sum(-1)
        total = total - squared / (2 * options["size_spread"] ** 2 * wider) - np.log(wider) * sizes.shape[1] / 2
    return total


def _split_cues(features: np.ndarray, options: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    n_colours, n_sizes = options.get("cues", (0, 0))
    end = features.shape[1]
    return features[:, end - n_colours - n_sizes : end - n_sizes], features[:, end - n_sizes :]
