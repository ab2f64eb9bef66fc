"""On which device a network computes."""

from itertools import chain

import torch
from torch import nn


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights lie; the CPU for one without any."""
    first = next(chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if first is None else first.device
