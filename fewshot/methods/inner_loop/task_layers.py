"""Layers with different weights or statistics for each task, differentiable any number of times.

Maps are (T, n, h, w, C) here: T tasks, n images of each, channels last.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Pooled(torch.autograd.Function):
    """Centres maps (T, n, h, w, C) by task and max-pools them; also computes their variance (T, 1, C) by task.

    Mean and variance are those of the first `leading` images of each task, whose values have weights `share`
    (T, leading, 1, 1, 1); None: equal weights. `side`: side of the pooled tiles. `sign`: −1 for channels of which the
    minimum is taken.
    """

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, leading: int, share: Tensor | None, side: int, sign: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        n_tasks, n, h, w, channels = maps.shape
        centred = (maps - _mean(maps[:, :leading], share)).contiguous()
        first = centred[:, :leading]
        wide = first.float() if first.dtype.itemsize < 4 else first
        variance = _mean(wide.square(), share).view(n_tasks, 1, channels)
        index, out = None, centred
        if side > 1:
            signed = centred if sign is None else centred * sign[:, None, None, None]
            _, index = F.max_pool2d(merge_tasks(signed), side, return_indices=True)
            index = index.permute(0, 2, 3, 1).flatten(1, 2)  # (T * n, tiles, C)
            out = centred.view(n_tasks * n, h * w, channels).gather(1, index)
            out = out.view(n_tasks, n, h // side, w // side, channels)
        ctx.save_for_backward(maps, centred, share, index)
        ctx.leading = leading
        return out, variance

    @staticmethod
    def backward(ctx: Any, of_pooled: Tensor, of_variance: Tensor) -> tuple[Tensor | None, ...]:
        of_maps = _PooledGradient.apply(of_pooled, of_variance, ctx.leading, *ctx.saved_tensors)
        return of_maps, None, None, None, None


class _PooledGradient(torch.autograd.Function):
    """The gradient of `Pooled` in its maps, itself differentiable.

    Let u be the upstream gradient, placed at the positions of the maxima, g that of the variance, p the weights (0
    except for the `leading` images) and c the centred maps. The gradient is u − p Σ u + 2 p g c.
    """

    @staticmethod
    def forward(
        ctx: Any,
        of_pooled: Tensor,
        of_variance: Tensor,
        leading: int,
        maps: Tensor,
        centred: Tensor,
        share: Tensor | None,
        index: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(of_variance, centred, share, index)
        ctx.shape, ctx.leading = of_pooled.shape, leading
        first = centred[:, :leading]
        p = _share(first, share)
        total = of_pooled.sum((1, 2, 3), keepdim=True)
        out = torch.addcmul(-p * total, first, (2 * p * of_variance[:, None, None]).to(first.dtype))
        if leading < centred.shape[1]:
            out = torch.cat([out, torch.zeros_like(centred[:, leading:])], 1)
        if index is None:
            return out + of_pooled
        tiles = of_pooled.reshape(len(index), -1, index.shape[-1])
        out.view(len(index), -1, index.shape[-1]).scatter_add_(1, index, tiles.to(out.dtype))
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_variance, centred, share, index = ctx.saved_tensors
        first, of_first = centred[:, : ctx.leading], upstream[:, : ctx.leading]
        p = _share(first, share)
        mean = _mean(of_first, share)
        of_of_pooled = upstream
        if index is not None:
            of_of_pooled = upstream.reshape(len(index), -1, index.shape[-1]).gather(1, index).view(ctx.shape)
        of_of_pooled = of_of_pooled - mean
        of_of_variance = 2 * _mean(of_first * first, share)[:, :, 0, 0]  # Σ p c = 0: the mean changes nothing
        of_maps = (of_first - mean) * (2 * p * of_variance[:, None, None]).to(upstream.dtype)
        if ctx.leading < centred.shape[1]:
            of_maps = torch.cat([of_maps, torch.zeros_like(centred[:, ctx.leading :])], 1)
        return of_of_pooled, of_of_variance.to(of_variance.dtype), None, of_maps, None, None, None


def _share(maps: Tensor, share: Tensor | None) -> Tensor | float:
    return share if share is not None else 1 / maps[0, ..., 0].numel()


def _mean(maps: Tensor, share: Tensor | None) -> Tensor:
    """Compute the mean of maps (T, n, h, w, C) by task and channel, (T, 1, 1, 1, C)."""
    if share is None:
        return maps.flatten(1, 3).mean(1)[:, None, None, None]
    return (maps * share).flatten(1, 3).sum(1)[:, None, None, None]


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply weights (T, out, in) and bias (T, out), or (out,) for all tasks, to inputs (T * n, ..., in)."""
    rows = inputs.reshape(len(weight), -1, inputs.shape[-1]).to(weight.dtype)  # (T, n * ..., in)
    out = rows @ weight.transpose(1, 2)
    out = out if bias is None else out + (bias if bias.ndim == 1 else bias[:, None])
    return out.view(*inputs.shape[:-1], -1)


def merge_tasks(by_task: Tensor) -> Tensor:
    """Reshape maps (T, n, h, w, C) to (T * n, C, h, w), channels-last."""
    return by_task.flatten(0, 1).permute(0, 3, 1, 2)


def split_by_task(maps: Tensor, n_tasks: int) -> Tensor:
    """Reshape maps (T * n, C, h, w) to (T, n, h, w, C)."""
    return maps.permute(0, 2, 3, 1).unflatten(0, (n_tasks, -1))
