"""The authors' SGD of Baseline and Baseline++, for thousands of episodes at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.methods.solvers.sgd_draws import N_PASSES, Draws
from fewshot.sampling.episodes import PADDING

# CloserLookFewShot, methods/baselinefinetune.py
BATCH = 4
LEARNING_RATE = 0.01
MOMENTUM = 0.9
DAMPENING = 0.9
WEIGHT_DECAY = 1e-3

CHUNK_NUMBERS = 1 << 20  # numbers of support coordinates per chunk on a CPU: about its cache
JITTER = 1e-12  # relative; larger than the rounding error of a float64 Gram matrix of up to 1,000 rows


@torch.no_grad()
def fit_linear(support: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Fit weight (B, n_way, D) and bias (B, n_way) by N_PASSES passes over each support set."""
    ones = support.new_ones(*support.shape[:2], 1)
    start = torch.cat([draws.weight, draws.bias[..., None]], -1)  # the bias is the weight of a constant feature
    fitted = _fit(torch.cat([support, ones], -1), labels, start, draws.order, None)
    return fitted[..., :-1], fitted[..., -1]


@torch.no_grad()
def fit_cosine(support: Tensor, labels: Tensor, draws: Draws, scale: float) -> Tensor:
    """Fit the weight (B, n_way, D), norm included, of a weight-normalised head: logits are scale · weight · x.

    The rows of `support` must have unit length; the head has no bias.
    """
    return _fit(support, labels, draws.weight, draws.order, scale)


def _fit(support: Tensor, labels: Tensor, start: Tensor, order: Tensor, scale: float | None) -> Tensor:
    """Fit heads (B, n_way, D), in chunks that fit into the cache of a CPU."""
    n_episodes, n_support, width = support.shape
    numbers = n_support * min(n_support + start.shape[1], width)
    size = n_episodes if support.is_cuda else max(1, CHUNK_NUMBERS // numbers)
    support = support.masked_fill((labels == PADDING)[..., None], 0)
    chunks = zip(*(part.split(size) for part in (support, labels, start, order)), strict=True)
    return torch.cat([_fit_in_span(*chunk, scale) for chunk in chunks])


def _fit_in_span(support: Tensor, labels: Tensor, start: Tensor, order: Tensor, scale: float | None) -> Tensor:
    """Fit the heads of one chunk.

    SGD stays in the span of the support and the initial rows, and depends only on their inner products. If there are
    fewer of these vectors than features, it runs in coordinates of that span: the Cholesky factor of their Gram matrix.
    """
    n_support = support.shape[1]
    spanning = torch.cat([support, start], 1)  # (B, m, D)
    if spanning.shape[1] >= spanning.shape[2]:
        return _descend(support, labels, start, order, scale)
    rows = spanning.double()
    lengths = rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(support.dtype).tiny)
    rows = rows / lengths
    gram = rows @ rows.mT + JITTER * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    factor = torch.linalg.cholesky_ex(gram).L  # (B, m, m)
    coordinates = (lengths * factor).to(support)
    fitted = _descend(coordinates[:, :n_support], labels, coordinates[:, n_support:], order, scale)
    return (torch.linalg.solve_triangular(factor, fitted.double(), upper=False, left=False) @ rows).to(support)


def _descend(x: Tensor, labels: Tensor, start: Tensor, order: Tensor, scale: float | None) -> Tensor:
    """Fit heads (B, n_way, m) by SGD on x (B, n_support, m), each episode in its own order of samples.

    Episodes are sorted by their number of images, so that those with a k-th batch come first.
    """
    counts, by_count = (labels != PADDING).sum(1).sort(descending=True, stable=True)
    x, labels, start, order = x[by_count], labels[by_count], start[by_count], order[by_count]
    targets = F.one_hot(labels + 1, start.shape[1] + 1)[..., 1:].to(x)  # (B, n_support, n_way)
    absent = x.new_zeros(targets.shape[0], 1, targets.shape[2]).masked_fill(
        targets.sum(1, keepdim=True) == 0, -torch.inf
    )
    samples = torch.cat([x, targets], -1).flatten(0, 1)
    first_rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    firsts = range(0, int(counts.max()), BATCH)
    having = [int((counts > first).sum()) for first in firsts]
    shares = _compute_shares(counts, x.shape[1]).to(x)
    head = _Head(start, absent, scale)
    for n in range(N_PASSES):
        rows = samples[(first_rows + order[:, n]).flatten()].unflatten(0, x.shape[:2])
        for first, k in zip(firsts, having, strict=True):
            batch = rows[:k, first : first + BATCH]
            head.step(
                batch[..., : x.shape[2]], batch[..., x.shape[2] :], shares[:k, first : first + BATCH], n + first == 0
            )
    return head.weight()[by_count.argsort()]


def _compute_shares(counts: Tensor, n_support: int) -> Tensor:
    """Compute the weight (B, n_support, 1) of each position of a pass in the mean over its batch."""
    place = torch.arange(n_support, device=counts.device)
    sizes = (counts[:, None] - place // BATCH * BATCH).clamp(1, BATCH)
    return ((place < counts[:, None]) / sizes)[..., None]


class _Head:
    """The heads of B episodes during SGD: linear, or with a `scale` cosine heads with torch's WeightNorm (dim 0)."""

    def __init__(self, start: Tensor, absent: Tensor, scale: float | None) -> None:
        self.vectors = start.clone(memory_format=torch.contiguous_format)  # (B, n_way, m)
        self.momentum = torch.zeros_like(self.vectors)  # contiguous, for the fast path of baddbmm_
        self.absent, self.scale = absent, scale  # (B, 1, n_way): 0, or −inf for classes without support
        self.norms = start.norm(dim=-1)[:, None]  # (B, 1, n_way), learnt where there is a scale
        self.norms_momentum = torch.zeros_like(self.norms)

    def step(self, x: Tensor, targets: Tensor, shares: Tensor, is_first: bool) -> None:
        """Take an SGD step of the first k episodes on batches x (k, b, m), targets (k, b, n_way), shares (k, b, 1)."""
        k = len(x)
        keep, take = (0.0, 1.0) if is_first else (MOMENTUM, 1 - DAMPENING)  # as torch's momentum starts
        vectors, momentum = self.vectors[:k], self.momentum[:k]
        if self.scale is None:
            logits = torch.baddbmm(self.absent[:k], x, vectors.mT)  # (k, b, n_way)
            error = logits.softmax(-1).sub_(targets).mul_(shares)
            decay: float | Tensor = take * WEIGHT_DECAY
        else:
            norms, norms_momentum = self.norms[:k], self.norms_momentum[:k]
            lengths = vectors.norm(dim=-1)[:, None]  # (k, 1, n_way)
            cosines = (x @ vectors.mT).div_(lengths)
            logits = (cosines * (self.scale * norms)).add_(self.absent[:k])
            error = logits.softmax(-1).sub_(targets).mul_(self.scale * shares)
            slope = (error * cosines).sum(1, keepdim=True)  # (k, 1, n_way): gradient of the loss in `norms`
            gains = norms / lengths
            decay = take * (WEIGHT_DECAY - gains / lengths * slope).mT
            error.mul_(gains)
            norms_momentum.mul_(keep).add_(slope, alpha=take).add_(norms, alpha=take * WEIGHT_DECAY)
            norms.sub_(norms_momentum, alpha=LEARNING_RATE)
        momentum.baddbmm_(error.mT, x, beta=keep, alpha=take).add_(vectors * decay)
        vectors.sub_(momentum, alpha=LEARNING_RATE)

    def weight(self) -> Tensor:
        """Compute the weights (B, n_way, m) of the linear maps, norms included."""
        return (
            self.vectors if self.scale is None else self.vectors * (self.norms / self.vectors.norm(dim=-1)[:, None]).mT
        )
