"""How sure an answer is: a temperature for probabilities, calibration error, AUROC."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import DataError

LOG_TEMPERATURES = (-7.0, 7.0)  # natural logarithms of the lowest and highest temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T > 0 at which softmax(logits / T) has the least negative log-likelihood.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. `logits` (n, n_classes), `labels`
    (n,), of images that the classifier was not fitted to. Where a few images are all right, the likelihood
    has no optimum and would prove certainty: the mean confidence on them is at most (n + 1) / (n + 2), the
    rule of succession. Where answers are no better than chance, T ends at exp(7).
    """
    if len(logits) == 0:
        raise DataError("a temperature needs held-out images: none were given")
    logits, labels = logits.double(), labels.to(logits.device)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits * np.exp(-log_temperature), labels))

    def too_sure(log_temperature: float) -> float:
        confidence = (logits * np.exp(-log_temperature)).softmax(1).max(1).values.mean()
        return float(confidence) - (len(logits) + 1) / (len(logits) + 2)

    best = float(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x)
    if too_sure(best) > 0:
        best = brentq(too_sure, best, LOG_TEMPERATURES[1])
    return float(np.exp(best))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 15) -> float:
    """Mean over images of |accuracy − confidence| within bins of equal width, a fraction.

    Guo et al. 2017, equation 3. `probabilities` (n, n_classes), `labels` (n,).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap = np.bincount(place, weights=right.astype(float) - confidence, minlength=n_bins)
    return float(np.abs(gap).sum() / len(labels))


def compute_auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Chance that a known image scores above an unknown one, ties counting half (Mann-Whitney)."""
    if not len(known) or not len(unknown):
        raise DataError(f"an AUROC needs scores of both kinds, got {len(known)} known and {len(unknown)} unknown")
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)].sum()
    return float((ranks - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown)))
