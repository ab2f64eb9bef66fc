"""Depthwise convolutions that a CPU trains in float32: torch's gradients of them are slow in bfloat16."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def train_depthwise_in_float32(network: nn.Module) -> None:
    """Let the depthwise convolutions of `network` compute in float32 where autocast on a CPU takes gradients.

    On a core with AMX (torch 2.15, 20 images): 96 channels of 56 x 56 at a stride of 2 take 61 ms back in bfloat16 and
    3.6 in float32, 672 of 7 x 7 by 5 x 5 kernels 36 and 9. Their outputs are bfloat16 as before; without gradients, and
    elsewhere, nothing changes.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = _make_float32(type(module))


def restore_depthwise(network: nn.Module) -> None:
    """Undo `train_depthwise_in_float32`."""
    for module in network.modules():
        if isinstance(module, _InFloat32):
            module.__class__ = type(module).__bases__[1]


class _InFloat32(nn.Conv2d):
    def forward(self, maps: Tensor) -> Tensor:
        if not (maps.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(maps)
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return super().forward(maps.float()).to(dtype)

    def __reduce__(self) -> tuple[Any, ...]:  # copies and pickles: the class is made at run time
        return _make_blank, (type(self).__bases__[1],), self.__dict__


@cache
def _make_float32(kind: type[nn.Conv2d]) -> type[nn.Conv2d]:
    """`kind`, whatever it pads and computes by, in float32."""
    return type(kind.__name__, (_InFloat32, kind), {"__module__": kind.__module__})


def _make_blank(kind: type[nn.Conv2d]) -> nn.Conv2d:
    made = _make_float32(kind)
    return made.__new__(made)
