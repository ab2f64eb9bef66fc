"""Asynchronous copies from the host to a device."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy `tensor` to `device`; copies from the CPU to a GPU are asynchronous, through page-locked memory.

    Work that is queued on the GPU afterwards starts after the copy. Copies to the CPU are synchronous, since the host
    may read the result at once.
    """
    device = torch.device(device)
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # an expanded one cannot be pinned
    return tensor.to(device)
