"""Softmax regression of many choices of support among the same images, as cross-validation makes them."""

import torch
from torch import Tensor

from fewshot.methods.solvers.softmax_regression import MOST_BYTES, solve
from fewshot.sampling.episodes import PADDING


@torch.no_grad()
def predict_among(
    features: Tensor, support: Tensor, labels: Tensor, queries: Tensor, n_way: int, c: float = 1.0
) -> Tensor:
    """Fit as `fit_softmax_regression` to B choices of support among the same n images, and predict others of them.

    Inner products of the images are computed once for all choices: that is what makes cross-validation cheap.

    Args:
        features: of all images (n, D).
        support: which of them are in the support, (B, n_support).
        labels: theirs, (B, n_support) in 0..n_way-1, or -1 for padding.
        queries: which are asked about, (B, n_query).
        n_way: classes of an episode.
        c: inverse strength of the regularisation, as of `fit_softmax_regression`.

    Returns:
        Logits (B, n_query, n_way), -inf for classes without support.
    """
    support, queries = (rows.to(features.device) for rows in (support, queries))
    at_once = max(1, MOST_BYTES // max(1, 16 * support.shape[1] * len(features)))
    if len(support) > at_once:
        parts = zip(*(rows.split(at_once) for rows in (support, labels, queries)), strict=True)
        return torch.cat([predict_among(features, s, y, q, n_way, c) for s, y, q in parts])
    x = features.double()
    x = x - x.mean(0)
    products = x @ x.T
    real = labels != PADDING
    share = real.double() / real.sum(1, keepdim=True).clamp_min(1)  # (B, n_support)
    own, others = products[support], products[queries]  # (B, n_support, n), (B, n_query, n)
    from_mean = (share[:, None] @ own).squeeze(1)  # (B, n): inner products with the mean of the support
    own, others = (part.gather(2, support[:, None].expand(-1, part.shape[1], -1)) for part in (own, others))
    seen, asked = (from_mean.gather(1, rows)[..., None] for rows in (support, queries))
    length = (share * seen[..., 0]).sum(1)[:, None, None]  # of the mean, squared
    both = real[:, :, None] & real[:, None]
    dual, bias, present = solve((own - seen - seen.mT + length).masked_fill(~both, 0), labels, n_way, c)
    bias = bias - bias.sum(2, keepdim=True) / present.sum(2, keepdim=True).clamp_min(1)
    logits = torch.baddbmm(bias, others - asked - seen.mT + length, dual)
    return logits.masked_fill(~present, -torch.inf).to(features)
