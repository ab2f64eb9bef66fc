"""Convolutions with different weights for each task, differentiable any number of times.

Maps are (T, n, h, w, C) here: T tasks, n images of each, channels last. The convolution and its two gradients are
closed under differentiation: the gradients of each are the other two. Each is computed by the faster of two ways: one
batched matrix product for all tasks, over image patches, which need k * k times the memory of the maps; or torch's
convolution, task after task.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

# Least pixels of a task for which torch's convolution is faster. Measured on a CPU core with AMX, in bfloat16, with
# 3 x 3 kernels and 4 to 16 tasks: a call costs 0.1 ms per task, and patches of more than about 4,000 pixels leave the
# cache. For the gradient of the maps 500 pixels suffice (10 images of 14 x 14 pixels, stride 2: 2.3 ms, not 22.8).
PIXELS_ONE_BY_ONE = 4000
PIXELS_ONE_BY_ONE_BACK = 500


class Geometry(NamedTuple):
    """The geometry of a convolution with kernels of `k` x `k` pixels."""

    k: int
    padding: int
    stride: int


class Convolution(torch.autograd.Function):
    """Convolves maps (T, n, h, w, in) with matrices (T, k * k * in, out); `patches` of the maps, if known."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, matrix: Tensor, how: Geometry, patches: Tensor | None = None) -> Tensor:
        side = [(length + 2 * how.padding - how.k) // how.stride + 1 for length in maps.shape[2:4]]
        patches = _extract_patches(maps, how) if patches is None else patches
        ctx.save_for_backward(maps, matrix, patches)
        ctx.how = how
        if patches is not None:
            return torch.bmm(patches, matrix).view(*maps.shape[:2], *side, -1)
        pairs = zip(_split_tasks(maps), _make_kernels(matrix, how.k), strict=True)
        return _stack([F.conv2d(images, kernel, None, how.stride, how.padding) for images, kernel in pairs])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, matrix, patches = ctx.saved_tensors
        of_maps, of_matrix = None, None
        if ctx.needs_input_grad[0]:
            of_maps = _MapGradient.apply(gradient, matrix, maps.shape, ctx.how)
        if ctx.needs_input_grad[1]:
            of_matrix = _WeightGradient.apply(maps, gradient, ctx.how, patches)
        return of_maps, of_matrix, None, None


class _MapGradient(torch.autograd.Function):
    """The gradient of `Convolution` in its maps, which have `shape`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, matrix: Tensor, shape: torch.Size, how: Geometry) -> Tensor:
        ctx.save_for_backward(gradient, matrix)
        ctx.how = how
        if not _runs_one_by_one(gradient, shape[1] * shape[2] * shape[3], PIXELS_ONE_BY_ONE_BACK):
            return _carry_back(gradient, matrix, shape, how)
        (k, padding, stride), pairs = how, zip(_split_tasks(gradient), _make_kernels(matrix, how.k), strict=True)
        left_out = [(length + 2 * padding - k) % stride for length in shape[2:4]]  # after the last window
        return _stack([F.conv_transpose2d(maps, kernel, None, stride, padding, left_out) for maps, kernel in pairs])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, matrix = ctx.saved_tensors
        with torch.no_grad():
            patches = _extract_patches(upstream, ctx.how)
        of_gradient, of_matrix = None, None
        if ctx.needs_input_grad[0]:
            of_gradient = Convolution.apply(upstream, matrix, ctx.how, patches)
        if ctx.needs_input_grad[1]:
            of_matrix = _WeightGradient.apply(upstream, gradient, ctx.how, patches)
        return of_gradient, of_matrix, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradient of `Convolution` in its matrices."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, gradient: Tensor, how: Geometry, patches: Tensor | None) -> Tensor:
        ctx.save_for_backward(maps, gradient, patches)
        ctx.how = how
        if patches is not None:
            return torch.bmm(patches.transpose(1, 2), gradient.reshape(len(maps), -1, gradient.shape[-1]))
        shape = (gradient.shape[-1], maps.shape[-1], how.k, how.k)
        pairs = zip(_split_tasks(maps), _split_tasks(gradient), strict=True)
        kernels = [conv2d_weight(images, shape, of, how.stride, how.padding) for images, of in pairs]
        return torch.stack([kernel.permute(2, 3, 1, 0).flatten(0, 2) for kernel in kernels])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        maps, gradient, patches = ctx.saved_tensors
        of_maps, of_gradient = None, None
        if ctx.needs_input_grad[0]:
            of_maps = _MapGradient.apply(gradient, upstream, maps.shape, ctx.how)
        if ctx.needs_input_grad[1]:
            of_gradient = Convolution.apply(maps, upstream, ctx.how, patches)
        return of_maps, of_gradient, None, None


def _runs_one_by_one(maps: Tensor, pixels: int, enough: int) -> bool:
    """Whether to convolve tasks one after the other."""
    return maps.device.type == "cpu" and pixels >= enough


def _split_tasks(maps: Tensor) -> tuple[Tensor, ...]:
    """Split maps into those of each task, (n, C, h, w), channels-last."""
    return maps.permute(0, 1, 4, 2, 3).unbind(0)


def _make_kernels(matrix: Tensor, k: int) -> tuple[Tensor, ...]:
    """Reshape the matrix (k * k * in, out) of each task to a kernel (out, in, k, k)."""
    return matrix.unflatten(1, (k, k, -1)).permute(0, 4, 3, 1, 2).unbind(0)


def _stack(maps: list[Tensor]) -> Tensor:
    return torch.stack([images.permute(0, 2, 3, 1) for images in maps])


def _extract_patches(maps: Tensor, how: Geometry) -> Tensor | None:
    """Extract k x k patches (T, n * h' * w', k * k * C) of maps (T, n, h, w, C); None if tasks run one by one."""
    k, padding, stride = how
    if _runs_one_by_one(maps, maps[0, ..., 0].numel() // stride**2, PIXELS_ONE_BY_ONE):
        return None
    padded = F.pad(maps, (0, 0, padding, padding, padding, padding)) if padding else maps.contiguous()
    n_tasks, n, h, w, channels = padded.shape
    row, image, side = w * channels, h * w * channels, [(h - k) // stride + 1, (w - k) // stride + 1]
    shape = (n_tasks * n, *side, k, k * channels)
    patches = padded.as_strided(shape, (image, stride * row, stride * channels, row, 1))
    return patches.reshape(n_tasks, -1, k * k * channels)


def _carry_back(gradient: Tensor, matrix: Tensor, shape: torch.Size, how: Geometry) -> Tensor:
    """Compute the gradient in the maps, of `shape` (T, n, h, w, in), from the `gradient` in the convolved maps."""
    k, padding, stride = how
    if stride > 1:  # put zeros between the rows and columns of the gradient
        side = [length + 2 * padding - k + 1 for length in shape[2:4]]
        spread = gradient.new_zeros(*gradient.shape[:2], *side, gradient.shape[-1])
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    turned = matrix.unflatten(1, (k * k, -1)).flip(1).transpose(2, 3).flatten(1, 2)  # (T, k * k * out, in)
    patches = _extract_patches(gradient, Geometry(k, k - 1 - padding, 1))
    return torch.bmm(patches, turned).view(shape)
