"""Chooses the unlabelled photographs whose labels would help most."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fewshot.methods import Method


def choose_next(similarity: Tensor, known: Tensor, n: int, groups: Sequence[object] | None = None) -> list[int]:
    """Choose photographs that, with those that have labels, stand for all others: greedy facility location.

    Each step takes the photograph that raises most the sum, over all photographs, of the likeness to the nearest one
    that is labelled or chosen: Nemhauser, Wolsey, Fisher, An analysis of approximations for maximizing submodular set
    functions, Mathematical Programming 14, 1978; for labels Wei, Iyer, Bilmes, ICML 2015. Compared on world coins'
    and CIFAR-FS's validation classes with the smallest margin, margin and density, weights of uncertainty, and the
    farthest photograph (k-center): docs/results/trust.md.

    Args:
        similarity: how alike unlabelled photographs are, (m, m).
        known: how alike they and labelled ones are, (m, n_labelled).
        n: how many to choose; fewer come back where there are not so many groups.
        groups: (m,); of a group one is chosen at most.

    Returns:
        Their rows, the most helpful first.
    """
    alike = similarity.double().numpy()
    group = np.arange(len(alike)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    covered = known.double().numpy().max(1, initial=-np.inf)
    covered = np.where(np.isfinite(covered), covered, alike.min())
    chosen: list[int] = []
    free = np.ones(len(alike), bool)
    while len(chosen) < n and free.any():
        gain = np.where(free, np.maximum(alike - covered, 0).sum(1), -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        covered = np.maximum(covered, alike[best])
        free &= group != group[best]
    return chosen


def measure_likeness(method: Method, features: Tensor, others: Tensor | None = None) -> Tensor:
    """Measure how alike photographs are by `method`, (n, n) of features (n, D), or (n, m) with `others` (m, D).

    Cosines are of features less the mean of all, which makes them close to 1 for all pairs. Methods with a similarity
    of their own know how to do without.
    """
    if type(method).similarity is Method.similarity:
        mean = (features if others is None else torch.cat([features, others])).mean(0)
        features, others = features - mean, None if others is None else others - mean
    return method.similarity(features if others is None else others, features)
