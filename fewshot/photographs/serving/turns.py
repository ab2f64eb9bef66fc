"""Features compared: rows of length 1, and local features at the best turn of one image against the other."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TINY = 1e-12  # torch's normalize divides by no less


def normalize(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), TINY)


def count_global(features: np.ndarray, options: Mapping[str, Any]) -> int:
    """How many numbers of features (n, D) stand before the local ones."""
    return features.shape[1] - math.prod(options["layout"])


def compare_turns(support: np.ndarray, queries: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Mean cosine of whitened cells at the best turn, (m, n), of features (n, D) and (m, D)."""
    layout = tuple(options["layout"])
    n_global = count_global(support, options)
    a, b = (normalize(x[:, n_global:].reshape(len(x), *layout)) for x in (support, queries))
    mean = a.mean((0, 1))  # (rings, channels)
    flat = (a - mean).reshape(-1, layout[2]) / math.sqrt(len(a))
    covariance = flat.T @ flat
    variance = max(float(np.trace(covariance)) / layout[2], float(np.finfo(np.float32).eps))
    shrinkage = options["shrinkage"]
    factor = np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * variance * np.eye(layout[2]))
    inverse = np.linalg.inv(factor).T
    spectra = [np.fft.rfft(normalize((x - mean) @ inverse).reshape(*x.shape[:2], -1), axis=1) for x in (b, a)]
    products = np.einsum("qfd,sfd->qsf", spectra[0], spectra[1].conj(), optimize=True)
    return np.fft.irfft(products, n=layout[0], axis=-1).max(-1) / (layout[0] * layout[1])
