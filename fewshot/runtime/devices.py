"""The device of a network."""

from itertools import chain

import torch
from torch import nn


def device_of(network: nn.Module) -> torch.device:
    """Find the device of a network's first parameter or buffer; a network without any is on the CPU."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device
