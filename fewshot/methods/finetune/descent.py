"""Gradient descent of a `Network` on a support set."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import ConfigError, TrainingError
from fewshot.methods.finetune.blocks import compute_depths, find_blocks
from fewshot.methods.finetune.network import Network
from fewshot.methods.finetune.options import Descent
from fewshot.methods.finetune.support import Support

MOMENTUM = 0.9  # of SGD

Watch = Callable[[int], bool]


def descend(network: Network, support: Support, options: Descent, n_steps: int, watch: Watch | None = None) -> None:
    """Take `n_steps` steps on the mean cross-entropy of the support; the schedule is that of `options.steps` steps.

    A step uses `batch_images` images, or all if there are fewer, in random order in each pass. `watch` is called with
    the number of steps done after each step, and ends the descent by returning True.
    """
    optimizer = _make_optimizer(network, options)
    rates = [group["lr"] for group in optimizer.param_groups]
    source = _Source(network, support, options)
    dropout = support.generator("dropout")
    with torch.enable_grad():
        for step, rows in zip(range(n_steps), _draw_batches(support, options.batch_images), strict=False):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * options.rate(step)
            features = source.features(rows)
            logits = network.logits(features, _draw_dropout(features, options.dropout, dropout))
            loss = F.cross_entropy(logits, support.labels[rows])
            if not loss.isfinite():
                raise TrainingError(
                    f"finetune, mode {network.changes.mode!r}: the loss is {loss.item()} in step {step}; "
                    f"lower lr ({options.lr:g}) or head_lr ({options.head_lr:g}), or check the images"
                )
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                _check_reached(network)
            optimizer.step()
            if watch is not None and watch(step + 1):
                break
    optimizer.zero_grad()  # frees the memory of the gradients


class _Source:
    """Computes the features of the support in each step, or only once if neither network nor images change."""

    def __init__(self, network: Network, support: Support, options: Descent) -> None:
        self.network, self.augmentation = network, options.augmentation
        self.draws, self.fixed = support.generator("augmentation"), None
        self.images = support.images if self.augmentation.changes else network.prepare(support.images)
        if network.frozen and not self.augmentation.changes:
            self.fixed = network.embed(self.images, options.batch_images)

    def features(self, rows: Tensor) -> Tensor:
        """Compute features (m, D) of the images in `rows` (m,)."""
        if self.fixed is not None:
            return self.fixed[rows]
        images = self.augmentation(self.images[rows], self.draws)
        return self.network.embed(images, len(images)) if self.network.frozen else self.network.features(images)


def _draw_batches(support: Support, batch_images: int) -> Iterator[Tensor]:
    """Yield the rows of each step, endlessly."""
    n, device = len(support), support.labels.device
    generator = support.generator("batches")
    while True:
        order = torch.randperm(n, generator=generator) if n > batch_images else torch.arange(n)
        yield from order.to(device).split(batch_images)


def _draw_dropout(features: Tensor, rate: float, generator: torch.Generator) -> Tensor | None:
    """Draw a dropout mask for features (m, D): 0 with probability `rate`, else 1 / (1 − rate)."""
    if not rate:
        return None
    kept = torch.rand(features.shape, generator=generator) >= rate
    return kept.to(features) / (1 - rate)


def _make_optimizer(network: Network, options: Descent) -> torch.optim.Optimizer:
    """Make an optimizer with a group of weights for each learning rate; weight decay applies to matrices only."""
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    scales = _compute_scales(network, options.layer_decay)
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            rate = options.head_lr if name.startswith("head.") else options.lr * scales.get(name, 1.0)
            groups.setdefault((rate, weight.ndim > 1), []).append(weight)
    made = [
        {"params": weights, "lr": rate, "weight_decay": options.weight_decay if decays else 0.0}
        for (rate, decays), weights in groups.items()
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(made, lr=options.lr, momentum=MOMENTUM)
    return torch.optim.AdamW(made, lr=options.lr)


def _compute_scales(network: Network, layer_decay: float) -> dict[str, float]:
    """Compute the factor of the learning rate of each weight of the backbone.

    It is layer_decay to the power of the number of blocks between the weight and the head, as in Bao et al. 2022
    (BEiT), https://arxiv.org/abs/2106.08254.
    """
    if layer_decay == 1 or network.frozen:
        return {}
    blocks = find_blocks(network.backbone)
    own = compute_depths(network.backbone, blocks).items()
    return {f"backbone.{name}": layer_decay ** (len(blocks) + 1 - depth) for name, depth in own}


def _check_reached(network: Network) -> None:
    """Raise `ConfigError` if weights that the mode added get no gradient, since they do not affect the logits."""
    unreached = [
        name
        for name, weight in network.network_parameters().items()
        if weight.requires_grad and weight.grad is None and network.changes.mode in ("lora", "adapter", "prompt")
    ]
    if unreached:
        raise ConfigError(
            f"finetune: mode {network.changes.mode!r} does not work for this backbone: it uses the weights of some "
            f"layers without calling them, so that no gradient reaches {unreached[0]} and {len(unreached) - 1} more"
        )
