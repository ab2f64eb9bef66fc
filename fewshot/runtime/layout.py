"""Lay out weights channels-last while a network runs, and contiguously again afterwards."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from fewshot.runtime.precision import Precision, resolve

_lock = threading.Lock()
_holders: dict[int, int] = {}  # id of a weight: number of open `channels_last` blocks


def choose_layout(module: nn.Module, precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Choose channels-last unless it makes batch statistics less accurate than `precision`: in float32 on a CPU.

    There torch's channels-last batch normalisation sums values one by one in float32, with an error of 2e-3 where the
    contiguous kernel has 5e-7. The rounding of bfloat16 is coarser than that anyway.
    """
    accurate = device.type == "cpu" and resolve(precision, device) == "float32"
    return nullcontext() if accurate else channels_last(module)


@contextmanager
def channels_last(module: nn.Module) -> Iterator[None]:
    """Within the block the weights of `module` are channels-last, which makes convolutions faster (docs/speed.md).

    Afterwards they are contiguous again, so that any library can save them. Blocks may overlap, also in several
    threads: a weight changes its layout when the first block that contains it begins and when the last one ends,
    because a convolution reads wrong values if the layout changes while it computes. Weights that are already
    channels-last are not changed.
    """
    with _lock:
        held = [weight for weight in _find_maps(module) if id(weight) in _holders or not _is_channels_last(weight)]
        for weight in held:
            if id(weight) not in _holders:
                _lay_out(weight, torch.channels_last)
            _holders[id(weight)] = _holders.get(id(weight), 0) + 1
    try:
        yield
    finally:
        with _lock:
            for weight in held:
                _holders[id(weight)] -= 1
                if _holders[id(weight)] == 0:
                    del _holders[id(weight)]
                    _lay_out(weight, torch.contiguous_format)


def keep_channels_last(module: nn.Module) -> None:
    """Lay out the weights of `module` channels-last permanently: `channels_last` then never changes them."""
    for weight in _find_maps(module):
        _lay_out(weight, torch.channels_last)


def _find_maps(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.dim() == 4]


def _is_channels_last(weight: Tensor) -> bool:
    """Decide by strides: `is_contiguous` is true for both layouts if a dimension has size 1."""
    _, channels, height, width = weight.shape
    return weight.stride() == (channels * height * width, 1, width * channels, channels)


def _lay_out(weight: Tensor, memory_format: torch.memory_format) -> None:
    for tensor in (weight, weight.grad):
        if tensor is not None:
            tensor.data = tensor.data.to(memory_format=memory_format)
