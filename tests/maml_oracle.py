"""MAML on one episode, twice: a plain loop written from the paper, and learn2learn's wrapper.

Both share no code with `fewshot.methods`. Each network is `backbone`, then a linear classifier; both
normalise by the statistics of the batch (`backbone` is given in training mode without running statistics)
and adapt every parameter. Shapes: support (n_support, C, H, W), labels (n_support,) with every class
there, query (n_query, C, H, W); classifier weight (n_way, D) and bias (n_way,).
"""

import copy
import warnings

import torch
from torch import Tensor, nn


def batch_statistics(backbone: nn.Module) -> nn.Module:
    """Copy `backbone`, in training mode, without running statistics."""
    backbone = copy.deepcopy(backbone).train()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return backbone


def inner_loss(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """Cross-entropy summed over the support and divided by the shots K ("sum/K"), or averaged ("mean")."""
    total = -sum(row.log_softmax(0)[label] for row, label in zip(logits, labels.tolist(), strict=True))
    n_classes = len(set(labels.tolist()))
    return total / (len(labels) / n_classes) if reduction == "sum/K" else total / len(labels)


def plain_maml(
    backbone: nn.Module,
    classifier_weight: Tensor,
    classifier_bias: Tensor,
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    *,
    order: int,
    steps: int,
    lr: float,
    reduction: str,
) -> tuple[dict[str, Tensor], Tensor]:
    """Adapted weights by name ("backbone.*", "classifier.weight", "classifier.bias"), query logits."""

    def network(weights: dict[str, Tensor], images: Tensor) -> Tensor:
        own = {name.removeprefix("backbone."): w for name, w in weights.items() if name.startswith("backbone.")}
        features = torch.func.functional_call(backbone, own, (images,))
        return features @ weights["classifier.weight"].T + weights["classifier.bias"]

    weights = {f"backbone.{name}": p for name, p in backbone.named_parameters()}
    weights |= {"classifier.weight": classifier_weight, "classifier.bias": classifier_bias}
    for _ in range(steps):
        loss = inner_loss(network(weights, support), support_labels, reduction)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=order == 2)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    return weights, network(weights, query)


def learn2learn_maml(
    backbone: nn.Module,
    classifier_weight: Tensor,
    classifier_bias: Tensor,
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    *,
    order: int,
    steps: int,
    lr: float,
    reduction: str,
) -> tuple[dict[str, Tensor], Tensor]:
    """As `plain_maml`, by `learn2learn.algorithms.MAML`; gradients reach the same leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from learn2learn.algorithms import MAML

    n_way, width = classifier_weight.shape
    classifier = nn.Linear(width, n_way)
    classifier._parameters.update(weight=classifier_weight, bias=classifier_bias)  # the caller's own leaves
    learner = MAML(nn.Sequential(backbone, classifier), lr=lr, first_order=order == 1).clone()
    for _ in range(steps):
        learner.adapt(inner_loss(learner(support), support_labels, reduction))
    names = {"0": "backbone", "1": "classifier"}
    parts = ((name.split(".", 1), weight) for name, weight in learner.module.named_parameters())
    return {f"{names[part]}.{rest}": weight for (part, rest), weight in parts}, learner(query)
