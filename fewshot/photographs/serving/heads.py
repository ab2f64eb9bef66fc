"""Heads on frozen features in numpy: fitted to a support set, they give logits.

Each computes what the method of that name in `fewshot.methods` does; tests compare the two.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewshot.photographs.serving.gaussians import (
    Arrays,
    average_classes,
    fit_cues,
    fit_gaussians,
    score_cues,
    score_gaussians,
    squared_euclidean,
)
from fewshot.photographs.serving.regression import fit_ridge, fit_softmax_regression
from fewshot.photographs.serving.turns import compare_turns, count_global, normalize

NORM_FLOOR = 1e-5  # Baseline++ adds it to a feature's length


@dataclass(frozen=True)
class Head:
    """A head that is fitted to support features (n, D) with labels (n,), and then gives logits of queries (m, D).

    `fit(support, labels, n_classes, options)` gives the arrays by which `logits(arrays, queries, options)` answers.
    `evidence_in_logits`: as of `fewshot.methods.Method`.
    """

    fit: Callable[[np.ndarray, np.ndarray, int, Mapping[str, Any]], Arrays]
    logits: Callable[[Arrays, np.ndarray, Mapping[str, Any]], np.ndarray]
    evidence_in_logits: bool = False


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the softmax over the last axis."""
    return scores - log_sum_exp(scores)[..., None]


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the sum of exp(score) over the last axis."""
    highest = scores.max(-1, keepdims=True)
    return np.log(np.exp(scores - highest).sum(-1)) + highest[..., 0]


def _linear(arrays: Arrays, prepared: np.ndarray) -> np.ndarray:
    return prepared @ arrays["weight"].T + arrays["bias"]


def _normalize_if_asked(x: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    return normalize(x) if options["normalize"] else x


def _fit_baseline(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    weight, bias = fit_softmax_regression(_normalize_if_asked(support, options), labels, n_classes, options["c"])
    return {"weight": weight, "bias": bias}


def _prepare_plus_plus(x: np.ndarray) -> np.ndarray:
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + NORM_FLOOR)


def _fit_plus_plus(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    scaled = options["scale"] * _prepare_plus_plus(support)
    weight, bias = fit_softmax_regression(scaled, labels, n_classes, options["c"])
    return {"weight": options["scale"] * weight, "bias": bias}


def _fit_r2d2(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    inputs = np.pad(support, ((0, 0), (0, 1)), constant_values=1.0)
    found = options["scale"] * fit_ridge(inputs, np.eye(n_classes)[labels], options["penalty"] * len(support))
    return {"weight": found[:-1].T, "bias": found[-1] + options["bias"]}


def _fit_means(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    return {"means": average_classes(_prepare_simpleshot(support, options), labels, n_classes)}


def _prepare_simpleshot(x: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    transform = options.get("transform", "UN")
    if transform == "UN":
        return x
    return normalize(x - np.asarray(options["base_mean"]) if transform == "CL2N" else x)


def _nearest_mean(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    prepared = _prepare_simpleshot(queries, options)
    return -squared_euclidean(prepared, arrays["means"]) / options.get("temperature", 1.0)


def _cosine_of_means(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    return options["temperature"] * (normalize(queries) @ normalize(arrays["means"]).T)


def _fit_gda(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    return fit_gaussians(_normalize_if_asked(support, options), labels, n_classes, options["shrinkage"])


def _mahalanobis(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    return score_gaussians(arrays, _normalize_if_asked(queries, options))


def _keep_support(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    return {"support": support, "labels": labels, "n_classes": np.array(n_classes)}


def _attend(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    support, labels = arrays["support"], arrays["labels"]
    if options["similarity"] == "cosine":
        scores = options["scale"] * (normalize(queries) @ normalize(support).T)
    else:
        scores = -squared_euclidean(queries, support)
    sums = [log_sum_exp(scores[:, labels == label]) for label in range(int(arrays["n_classes"]))]
    return log_softmax(np.stack(sums, 1))


def _vote(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    support, labels, n_classes = arrays["support"], arrays["labels"], int(arrays["n_classes"])
    if options["metric"] == "euclidean":
        distances = squared_euclidean(queries, support)
    else:
        distances = np.maximum(1 - normalize(queries) @ normalize(support).T, 0)
    nearest = np.stack([distances[:, labels == label].min(1) for label in range(n_classes)], 1)
    if options["k"] == 1:
        return -nearest
    furthest = np.sort(distances, 1)[:, min(options["k"], len(support)) - 1, None]
    votes = (distances <= furthest).astype(distances.dtype) @ np.eye(n_classes)[labels]
    greatest = np.maximum(nearest.max(1, keepdims=True), np.finfo(np.float32).tiny)
    return votes - nearest / (2.1 * greatest)


def _fit_aligned(support: np.ndarray, labels: np.ndarray, n_classes: int, options: Mapping[str, Any]) -> Arrays:
    n_global = count_global(support, options)
    weight, bias = fit_softmax_regression(support[:, :n_global], labels, n_classes, options["c"])
    cues = fit_cues(support[:, :n_global], labels, n_classes, options)
    return {"weight": weight, "bias": bias, **cues, **_keep_support(support, labels, n_classes, options)}


def _lay_over(arrays: Arrays, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    n_global = count_global(queries, options)
    regression = log_softmax(queries[:, :n_global] @ arrays["weight"].T + arrays["bias"])
    scores = options["sharpness"] * compare_turns(arrays["support"], queries, options)
    labels = arrays["labels"]
    own = [scores[:, labels == label] for label in range(int(arrays["n_classes"]))]
    evidence = np.stack([log_sum_exp(s) - math.log(s.shape[1]) for s in own], 1)
    return regression + options["weight"] * evidence + score_cues(arrays, queries[:, :n_global], options)


HEADS = {
    "baseline": Head(_fit_baseline, lambda a, x, o: _linear(a, _normalize_if_asked(x, o))),
    "baseline++": Head(_fit_plus_plus, lambda a, x, o: _linear(a, _prepare_plus_plus(x))),
    "r2d2": Head(_fit_r2d2, lambda a, x, o: _linear(a, x)),
    "protonet": Head(_fit_means, _nearest_mean),
    "simpleshot": Head(_fit_means, _nearest_mean),
    "gda": Head(_fit_gda, _mahalanobis),
    "meta-baseline": Head(_fit_means, _cosine_of_means),
    "matching": Head(_keep_support, _attend),
    "nearest": Head(_keep_support, _vote),
    "adapted": Head(lambda *_: {}, lambda a, x, o: x),  # the network gives logits
    "aligned": Head(_fit_aligned, _lay_over, evidence_in_logits=True),
}  # of the methods that are called so
