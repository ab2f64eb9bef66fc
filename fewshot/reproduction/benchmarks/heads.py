"""Measures fitting heads: for a whole batch of episodes, and for one episode after the other."""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.solvers.sgd_draws import draw
from fewshot.methods.solvers.sgd_head import BATCH, DAMPENING, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, fit_linear
from fewshot.methods.solvers.softmax_regression import fit_softmax_regression
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime import seeding

N_WAY, N_SHOT, N_QUERY, WIDTH = 5, 5, 15, 512
SPREAD = 0.3  # standard deviation of class means, 1 within classes: about 90% accuracy


def draw_gaussian_episodes(n_episodes: int, n_shot: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Features (B, N_WAY * (n_shot + N_QUERY), WIDTH), classes interleaved, and their labels (B, …)."""
    generator = seeding.generator(0, "benchmark heads")
    labels = torch.arange(N_WAY).repeat(n_shot + N_QUERY)
    means = SPREAD * torch.randn(n_episodes, N_WAY, WIDTH, generator=generator)
    features = means[:, labels] + torch.randn(n_episodes, len(labels), WIDTH, generator=generator)
    return features.relu().to(device), labels.expand(n_episodes, -1).contiguous().to(device)


def run_literal_sgd(support: Tensor, labels: Tensor, order: Tensor) -> nn.Linear:
    """The authors' loop on one episode: support (n_support, D), labels (n_support,), order (N_PASSES, n_support)."""
    head = nn.Linear(support.shape[1], N_WAY, device=support.device)
    optimizer = torch.optim.SGD(
        head.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, dampening=DAMPENING, weight_decay=WEIGHT_DECAY
    )
    for one_pass in order:
        for batch in one_pass.split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(head(support[batch]), labels[batch]).backward()
            optimizer.step()
    return head


def measure_faithful_sgd(
    n_ours: int = 1000, n_literal: int = 3, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Measure milliseconds an episode of Baseline's SGD, 5-way 5-shot, 512 features: ours, and a literal loop."""
    features, labels = draw_gaussian_episodes(n_ours, N_SHOT, device)
    support, labels = features[:, : N_WAY * N_SHOT], labels[:, : N_WAY * N_SHOT]
    order = draw(support[:n_literal], labels[:n_literal], N_WAY, 0).order

    def ours() -> None:
        weight, _ = fit_linear(support, labels, draw(support, labels, N_WAY, 0))
        weight.sum().item()  # waits for a GPU

    def literal() -> None:
        for b in range(n_literal):
            run_literal_sgd(support[b], labels[b], order[b])

    ours_ms = 1000 * measure_median_seconds(ours, 3) / n_ours
    literal_ms = 1000 * measure_median_seconds(literal, 3, warmup=0) / n_literal
    return {"ours_ms": ours_ms, "literal_ms": literal_ms, "ratio": literal_ms / ours_ms}


def measure_logistic(
    n_shot: int = N_SHOT, n_ours: int = 1000, n_sklearn: int = 100, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Measure milliseconds an episode of softmax regression, ours and scikit-learn's with its default tolerance.

    5-way, 512 features; also the accuracy of both on the queries of the episodes that scikit-learn solves.
    """
    features, labels = draw_gaussian_episodes(n_ours, n_shot, device)
    n_support = N_WAY * n_shot
    support, query = features[:, :n_support], features[:n_sklearn, n_support:]
    x, y = features[:n_sklearn].cpu().numpy(), labels[:n_sklearn].cpu().numpy()

    def ours() -> Tensor:
        weight, bias = fit_softmax_regression(support, labels[:, :n_support], N_WAY)
        return torch.baddbmm(bias[:n_sklearn, None], query, weight[:n_sklearn].mT).argmax(-1).cpu()

    def fit(b: int) -> LogisticRegression:
        return LogisticRegression(max_iter=1000).fit(x[b, :n_support], y[b, :n_support])

    right = labels[:n_sklearn, n_support:].cpu()
    theirs = [fit(b).score(x[b, n_support:], y[b, n_support:]) for b in range(n_sklearn)]
    ours_ms = 1000 * measure_median_seconds(ours, 3) / n_ours
    sklearn_ms = 1000 * measure_median_seconds(lambda: [fit(b) for b in range(n_sklearn)], 3, warmup=0) / n_sklearn
    return {
        "ours_ms": ours_ms, "sklearn_ms": sklearn_ms, "ratio": sklearn_ms / ours_ms,
        "accuracy": float((ours() == right).float().mean()), "sklearn_accuracy": sum(theirs) / n_sklearn,
    }  # fmt: skip
