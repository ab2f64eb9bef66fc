"""Copies from the host to a device for which nobody waits."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """`tensor` on `device`; a copy to a GPU goes through page-locked memory, and the host goes on at once.

    What the GPU is told to do afterwards comes after the copy. The host waits for copies to itself, since it may read
    them as soon as it has them.
    """
    device = torch.device(device)
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
