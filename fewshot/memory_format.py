"""Channels-last weights while a network runs; contiguous ones for whoever holds it afterwards."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from fewshot.precision import Precision, resolve


def running_layout(module: nn.Module, precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Channels-last where batch statistics are as accurate as `precision` is, so not in float32 on a CPU.

    There torch's channels-last batch norm sums in float32 one by one: off by 2e-3 where the contiguous
    one is by 5e-7. bfloat16 rounds more coarsely than that.
    """
    accurate = device.type == "cpu" and resolve(precision, device) == "float32"
    return nullcontext() if accurate else channels_last(module)


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Within the block convolutions run channels-last: 1.4 times the training speed on a CPU, 2.8 times embedding.

    Afterwards the weights are laid out as they were, so that any library can save them.
    """
    weights = [p for p in module.parameters() if p.dim() == 4]
    already = any(w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights)
    module.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        if not already:
            module.to(memory_format=torch.contiguous_format)
