"""Batch normalisation over the images of all processes, on any device.

`torch.nn.SyncBatchNorm` does not support CPU tensors. This layer uses differentiable all-reduces, so that a run on k
processes computes the same as one process.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, which also sums its gradients, and theirs.

    `torch.distributed.nn.functional.all_reduce` does so too, and warns at each call in newer versions of torch.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _SumOverProcesses.apply(gradient)


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with batch statistics over all processes; parameters, buffers and state dict are the same."""

    plain_in_evaluation = True  # in evaluation mode it equals `nn.BatchNorm2d`

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images or maps (n, C, H, W)."""
        if not self.training:
            return super().forward(images)
        x = images.float()
        ones = x.new_full((1,), x.numel() / x.shape[1])
        dist.all_reduce(ones)  # number of values of a channel, over all processes
        mean = _SumOverProcesses.apply(x.sum((0, 2, 3))) / ones
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / ones
        self._update(mean.detach(), variance.detach() * ones / (ones - 1))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d of `module`, in place, by one with statistics over all processes.

    On GPUs this is torch's `SyncBatchNorm`, which is faster.
    """
    if any(parameter.is_cuda for parameter in module.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if type(child) is nn.BatchNorm2d and child.affine and child.track_running_stats:
            child.__class__ = SynchronisedBatchNorm2d
    return module
