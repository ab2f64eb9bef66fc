"""Confidence of answers: temperature scaling, calibration error, AUROC."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import DataError

LOG_TEMPERATURES = (-7.0, 7.0)  # natural logarithms of the lowest and highest temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature T > 0 that minimises the negative log-likelihood of softmax(logits / T).

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. `logits` (n, n_classes) and `labels` (n,) are of
    images that the classifier was not fitted to. If all of them are classified correctly, the likelihood grows as T
    goes to 0, and a few images would yield a confidence of 1. Mean confidence is therefore limited to
    (n + 1) / (n + 2), the rule of succession. If the answers are no better than chance, T is exp(7).
    """
    if len(logits) == 0:
        raise DataError("fitting a temperature needs held-out images: none were given")
    logits, labels = logits.double(), labels.to(logits.device)

    def compute_loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits * np.exp(-log_temperature), labels))

    def compute_excess_confidence(log_temperature: float) -> float:
        confidence = (logits * np.exp(-log_temperature)).softmax(1).max(1).values.mean()
        return float(confidence) - (len(logits) + 1) / (len(logits) + 2)

    best = float(minimize_scalar(compute_loss, bounds=LOG_TEMPERATURES, method="bounded").x)
    if compute_excess_confidence(best) > 0:
        best = brentq(compute_excess_confidence, best, LOG_TEMPERATURES[1])
    return float(np.exp(best))


def compute_calibration_error(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 15) -> float:
    """Compute the expected calibration error: |accuracy − confidence| of bins of equal width, weighted by their images.

    Guo et al. 2017, equation 3. `probabilities` (n, n_classes), `labels` (n,); a fraction.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap = np.bincount(place, weights=right.astype(float) - confidence, minlength=n_bins)
    return float(np.abs(gap).sum() / len(labels))


def compute_auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Compute the probability that a known image scores higher than an unknown one, ties counting half."""
    if not len(known) or not len(unknown):
        raise DataError(f"an AUROC needs scores of both kinds, got {len(known)} known and {len(unknown)} unknown")
    # The Mann-Whitney statistic, from the sum of the ranks of the known images.
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)].sum()
    return float((ranks - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown)))
