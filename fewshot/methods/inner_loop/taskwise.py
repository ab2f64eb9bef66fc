"""Run a network for several tasks in one pass, with different weights for each task, as MAML's inner loop needs.

The network itself is not changed: while it runs, the functions that its layers call are replaced by those of
`task_layers` and `task_convolution`. If max-pooling directly follows batch normalisation, only the pooled values are
normalised, because the maps before pooling are the largest tensors of such networks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.inner_loop.episode_statistics import EpisodeStatistics, make_mask, normalise_by_kernel
from fewshot.methods.inner_loop.second_derivatives import TWICE_DIFFERENTIABLE
from fewshot.methods.inner_loop.task_convolution import Convolution, Geometry
from fewshot.methods.inner_loop.task_layers import Pooled, linear, merge_tasks, split_by_task


class TaskWise(EpisodeStatistics):
    """Within the block layers accept weights with a leading task dimension T; inputs are (T * n_images, ...).

    Weights are (T, out, in, k, k) for convolutions, (T, out, in) for linear layers and (T, C) for batch normalisation,
    which uses the statistics of each task. Weights without the task dimension are shared by all tasks. `dtype`: the
    precision of convolutions (None: that of their inputs). `twice`: whether second derivatives are needed.
    """

    def __init__(
        self,
        n_tasks: int,
        n_images: int,
        counted: Tensor | int | None = None,
        dtype: torch.dtype | None = None,
        twice: bool = False,
    ) -> None:
        super().__init__(n_tasks, n_images, counted)
        self.n_tasks, self.dtype, self.twice = n_tasks, dtype, twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d:
            return self._convolution(*args, **(kwargs or {}))
        if func is F.linear:
            return self._linear(*args, **(kwargs or {}))
        if self.twice:
            func = TWICE_DIFFERENTIABLE.get(func, func)
        return super().__torch_function__(func, types, args, kwargs)

    def normalise(self, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """Normalise as `EpisodeStatistics` does; weight and bias are (C,) or (T, C)."""
        if inputs.ndim != 4:
            return super().normalise(inputs, weight, bias, eps)
        return self._normalise_and_pool(inputs, weight, bias, eps)

    @contextmanager
    def pool_first(self, network: nn.Module) -> Iterator[None]:
        """Within the block sequences of layers in `network` pool before they normalise, with the same result."""
        sequences = [module for module in network.modules() if _normalises_then_pools(module)]
        for sequence in sequences:
            sequence.forward = partial(self._run, tuple(sequence))  # type: ignore[method-assign]
        try:
            yield
        finally:
            for sequence in sequences:
                del sequence.forward

    def _run(self, layers: tuple[nn.Module, ...], maps: Tensor) -> Tensor:
        """Run `layers` one after the other."""
        position = 0
        while position < len(layers):
            layer, *after = layers[position : position + 2]
            if after and maps.ndim == 4 and _is_pair(layer, after[0]):
                side = _as_pair(after[0].kernel_size)[0]
                norm = cast(nn.BatchNorm2d, layer)
                maps = self._normalise_and_pool(maps, norm.weight, norm.bias, norm.eps, side)
                position += 2
            else:
                maps = layer(maps)
                position += 1
        return maps

    def _normalise_and_pool(
        self, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, side: int = 1
    ) -> Tensor:
        """Normalise maps (T * n, C, h, w) and max-pool their `side` x `side` tiles, to (T * n, C, h / side, ...)."""
        counted, maps = self.choose_rows(inputs), split_by_task(inputs, self.n_tasks)  # (T, n, h, w, C)
        if side == 1 and maps.device.type == "cpu" and maps.dtype.itemsize < 4:
            channels_first = maps.permute(0, 1, 4, 2, 3)  # (T, n, C, h, w)
            normalised = normalise_by_kernel(channels_first, make_mask(counted, channels_first), weight, bias, eps)
            if normalised is not None:
                return normalised
        sign = None
        # on a CPU check whether any scale is negative; on a GPU the check would wait for it
        if side > 1 and weight is not None and (weight.device.type != "cpu" or bool((weight < 0).any())):
            sign = torch.where(weight < 0, -1.0, 1.0).to(maps.dtype)
            sign = sign.expand(self.n_tasks, -1)  # with a negative scale the minimum becomes the maximum
        share, leading = None, counted if isinstance(counted, int) else maps.shape[1]
        if isinstance(counted, Tensor):
            share = counted.to(maps.dtype)  # (T, n)
            share = (share / share.sum(1, keepdim=True) / maps[0, 0, ..., 0].numel())[:, :, None, None, None]
        centred, variance = Pooled.apply(maps, leading, share, side, sign)
        scale = torch.rsqrt(variance + eps)[:, None, None]  # (T, 1, 1, 1, C)
        if weight is not None:
            scale = scale * _repeat_pixelwise(weight)
        scale = scale.to(centred.dtype)
        return merge_tasks(
            centred * scale if bias is None else torch.addcmul(_repeat_pixelwise(bias).to(scale), centred, scale)
        )

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply a linear layer to inputs (T * n, ..., in) with weights (T, out, in) and (T, out), or shared ones."""
        if weight.ndim == 2 and (bias is None or bias.ndim == 1):
            return F.linear(input if self.dtype is None else input.to(weight.dtype), weight, bias)
        self.count_rows_of_image(input)
        return linear(input, weight.expand(self.n_tasks, *weight.shape[-2:]), bias)

    def _convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        """Convolve maps (T * n, in, h, w) with weights (T, out, in, k, k) and (T, out), or with shared ones."""
        if weight.ndim == 4 and self.dtype is None and (bias is None or bias.ndim == 1):
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        maps, dtype = input, self.dtype or input.dtype
        # depthwise convolutions are trained in float32 on a CPU: see `fewshot.backbones.surgery.depthwise`
        depthwise, graded = groups == maps.shape[1] > 1, maps.requires_grad or weight.requires_grad
        exact = maps.device.type == "cpu" and depthwise and graded
        inner = torch.promote_types(dtype, torch.float32) if exact else dtype
        maps, weight = maps.to(inner), weight.to(inner)
        if weight.ndim == 4:
            own = None if bias is None or bias.ndim == 2 else bias.to(inner)
            out = torch.conv2d(maps, weight, own, stride, padding, dilation, groups).to(dtype)
            return out if bias is None or bias.ndim == 1 else out + self._repeat_bias(bias.to(dtype), out)
        self.count_rows_of_image(maps)
        n_tasks, n_out, _, k, width = weight.shape
        step, step_width = _as_pair(stride)
        pad, pad_width = (None, None) if isinstance(padding, str) else _as_pair(padding)
        square = (k, pad, step) == (width, pad_width, step_width)
        if square and pad is not None and pad < k and set(_as_pair(dilation)) == {1} and groups == 1:
            matrix = weight.permute(0, 3, 4, 2, 1).reshape(n_tasks, -1, n_out)
            out = merge_tasks(Convolution.apply(split_by_task(maps, n_tasks), matrix, Geometry(k, pad, step)))
        else:  # one grouped convolution, in which each task is a group of channels
            grouped = maps.unflatten(0, (n_tasks, -1)).transpose(0, 1).flatten(1, 2)  # (n, T * in, h, w)
            out = torch.conv2d(grouped, weight.flatten(0, 1), None, stride, padding, dilation, n_tasks * groups)
            out = out.to(dtype)
            out = out.unflatten(1, (n_tasks, n_out)).transpose(0, 1).flatten(0, 1)
        return out if bias is None else out + self._repeat_bias(bias.to(dtype), out)

    def _repeat_bias(self, bias: Tensor, maps: Tensor) -> Tensor:
        """Expand a bias (T, C) or (C,) to the rows of `maps`, (T * n, C, 1, 1)."""
        if bias.ndim == 1:
            return bias[:, None, None]
        return bias.repeat_interleave(len(maps) // self.n_tasks, 0)[..., None, None]


def _normalises_then_pools(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether `module` just calls its layers in order, and two of them are batch normalisation followed by pooling."""
    if not isinstance(module, nn.Sequential):
        return False
    plain = type(module).forward is nn.Sequential.forward or getattr(module, "calls_in_order", False)
    return plain and any(map(_is_pair, module, list(module)[1:]))


def _is_pair(norm: nn.Module, pool: nn.Module) -> bool:
    """Whether `norm` is batch normalisation and `pool` takes the maxima of adjacent square tiles."""
    plain = type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) or getattr(norm, "plain_in_evaluation", False)
    if not plain or norm.training or type(pool) is not nn.MaxPool2d or pool.return_indices or pool.ceil_mode:
        return False
    if any(m._forward_hooks or m._forward_pre_hooks for m in (norm, pool)):
        return False
    side, step, padding, dilation = map(_as_pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    return side[0] == side[1] and (step, padding, dilation) == (side, (0, 0), (1, 1))


def _repeat_pixelwise(weight: Tensor) -> Tensor:
    return weight.view(-1, 1, 1, 1, weight.shape[-1])  # (T or 1, 1, 1, 1, C)


def _as_pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)
