"""Makes the optimizer, the learning-rate schedule and the weight average of a training run."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fewshot.config import TrainingOptions
from fewshot.errors import ConfigError

WARMUP_STEPS = 200  # after an optimizer began anew within a run


def make_optimizer(module: nn.Module, config: TrainingOptions) -> torch.optim.Optimizer:
    """Make the configured optimizer of the trainable parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        frozen = ": its backbone is frozen" if getattr(module, "frozen", False) else ""
        raise ConfigError(f"{type(module).__name__} has no parameter to train{frozen}")
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, momentum=0.9, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.lr, weight_decay=config.weight_decay)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainingOptions, restarts: Sequence[int] = ()) -> LambdaLR:
    """Make the learning-rate schedule, to be stepped once after each optimizer step.

    `restarts`: the steps after which the optimizer began anew; may grow later.
    """
    factor = make_learning_rate_factor(config)

    def factor_with_restarts(step: int) -> float:
        since = step - restarts[-1] if restarts else WARMUP_STEPS
        return factor(step) * min(1.0, (since + 1) / WARMUP_STEPS)

    return LambdaLR(optimizer, factor_with_restarts)


def make_learning_rate_factor(config: TrainingOptions) -> Callable[[int], float]:
    """Make a function from the step to the factor by which `config.lr` is multiplied."""
    milestone_steps = [round(fraction * config.max_steps) for fraction in config.lr_milestones]

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        if config.schedule == "halve":
            return warm * 0.5 ** (step // config.lr_period_steps)
        if config.schedule == "step":
            return warm * 0.1 ** sum(step >= milestone for milestone in milestone_steps)
        if config.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.max_steps)))
        return warm

    return factor


def make_average(method: nn.Module, config: TrainingOptions) -> AveragedModel | None:
    """Make an exponential moving average of weights and batch-norm statistics, or None without `average_decay`."""
    if not config.average_decay:
        return None
    return AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay), use_buffers=True)
