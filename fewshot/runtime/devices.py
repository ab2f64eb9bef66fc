"""The device of a network."""

from itertools import chain

import torch
from torch import nn

from fewshot.errors import ConfigError


def device_of(network: nn.Module) -> torch.device:
    """Find the device of a network's first parameter or buffer; a network without any is on the CPU."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def find_device(name: str) -> torch.device:
    """Find the device called `name`; raises `ConfigError` for one that this machine does not have."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kinds = {"cpu": 1} | ({accelerator.type: torch.accelerator.device_count()} if accelerator else {})
    try:
        device = torch.device(name)
        known = (device.index or 0) < kinds.get(device.type, 0)
    except RuntimeError:
        known = False
    if not known:
        there = ", ".join(kind if n == 1 else f"{kind}:0 to {kind}:{n - 1}" for kind, n in kinds.items())
        raise ConfigError(f"device: there is no {name!r} on this machine, but {there}")
    return device
