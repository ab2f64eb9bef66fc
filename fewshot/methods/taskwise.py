"""Networks with weights of their own for each task, all tasks in one pass: what MAML's inner loop runs on.

A convolution with weights per task is one batched matrix product over image patches, differentiable any
number of times. Where batch normalisation is followed by max-pooling, only the pooled values are
normalised: the values before pooling are the largest tensors of such networks, and each pass saved counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.episode_statistics import BATCH_NORM, EpisodeStatistics

LAYERS = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)  # whose weights may differ between tasks


class TaskWise(EpisodeStatistics):
    """Within the block layers take weights with a leading task dimension T, inputs are (T * n, ...).

    Convolutions (T, out, in, k, k), linear layers (T, out, in), batch normalisation (T, C), which uses
    each task's own statistics; weights without the task dimension are shared by all tasks.
    `dtype`: what convolutions compute in (None: what their inputs are in).
    """

    def __init__(self, n_tasks: int, counted: Tensor | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__(n_tasks, counted)
        self.n_tasks, self.dtype = n_tasks, dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            given = BATCH_NORM.bind(*args, **kwargs).arguments
            maps = _written_out(given["input"])
            if maps.ndim == 4:
                weight, bias, eps = given.get("weight"), given.get("bias"), given.get("eps", 1e-5)
                return _Normalised(_by_task(maps, self.n_tasks), self.counted, weight, bias, eps)
        elif func is F.max_pool2d and isinstance(args[0], _Normalised) and _tiles(*args[1:], **kwargs):
            return args[0].pooled(args[1] if len(args) > 1 else kwargs["kernel_size"])
        args = tuple(map(_written_out, args))
        if func is torch.conv2d:
            return self._convolution(*args, **kwargs)
        if func is F.linear and args[1].ndim == 3:
            return linear(*args, **kwargs)
        return super().__torch_function__(func, types, args, kwargs)

    def _convolution(
        self,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        """A convolution of maps (T * n, in, h, w) with weights (T, out, in, k, k), or shared ones."""
        dtype = self.dtype or maps.dtype
        maps, weight = maps.to(dtype), weight.to(dtype)
        if weight.ndim == 4:
            return torch.conv2d(
                maps, weight, None if bias is None else bias.to(dtype), stride, padding, dilation, groups
            )
        (n_tasks, n_out, _, k, width), pad = weight.shape, padding[0] if isinstance(padding, tuple) else padding
        plain = all(set(_pair(value)) == {1} for value in (stride, dilation, groups))
        if plain and k == width and set(_pair(padding)) == {pad} and pad < k:
            matrix = weight.permute(0, 3, 4, 2, 1).reshape(n_tasks, -1, n_out)
            out = _maps(_Convolution.apply(_by_task(maps, n_tasks), matrix, k, pad))
        else:  # tasks as groups of channels
            grouped = maps.unflatten(0, (n_tasks, -1)).transpose(0, 1).flatten(1, 2)  # (n, T * in, h, w)
            out = torch.conv2d(grouped, weight.flatten(0, 1), None, stride, padding, dilation, n_tasks * groups)
            out = out.unflatten(1, (n_tasks, n_out)).transpose(0, 1).flatten(0, 1)
        return out if bias is None else out + bias.to(dtype).repeat_interleave(len(maps) // n_tasks, 0)[..., None, None]


@dataclass
class _Normalised:
    """Maps whose batch normalisation is not written out yet, so that pooling may come first.

    `maps` (T, n, h, w, C); `counted`, `weight`, `bias`, `eps`: as in `EpisodeStatistics.normalise`.
    """

    maps: Tensor
    counted: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def pooled(self, side: Any = 1) -> Tensor:
        """Normalised maximum of each `side` x `side` tile, (T * n, C, h, w)."""
        sign = None
        if self.weight is not None and bool((self.weight < 0).any()):
            sign = torch.where(self.weight < 0, -1.0, 1.0).to(self.maps.dtype)
            sign = sign.expand(len(self.maps), -1)  # where the scale is negative the minimum becomes the maximum
        share = None
        if self.counted is not None:
            share = self.counted.to(self.maps.dtype)  # (T, n)
            share = (share / share.sum(1, keepdim=True) / self.maps[0, 0, ..., 0].numel())[:, :, None, None, None]
        centred, variance = _Pooled.apply(self.maps, share, _pair(side)[0], sign)
        scale = torch.rsqrt(variance + self.eps)[:, None, None]  # (T, 1, 1, 1, C)
        if self.weight is not None:
            scale = scale * _per_task(self.weight)
        scale = scale.to(centred.dtype)
        out = centred * scale if self.bias is None else torch.addcmul(_per_task(self.bias).to(scale), centred, scale)
        return _maps(out)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pooled(), name)

    def __add__(self, other: Any) -> Tensor:
        return self.pooled() + _written_out(other)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*map(_written_out, args), **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """Maps (T, n, h, w, in) by matrices (T, k * k * in, out), stride 1."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, matrix: Tensor, k: int, padding: int) -> Tensor:
        patches = _patches(maps, k, padding)
        ctx.save_for_backward(maps, matrix, patches)
        ctx.k, ctx.padding = k, padding
        side = [length + 2 * padding - k + 1 for length in maps.shape[2:4]]
        return torch.bmm(patches, matrix).view(*maps.shape[:2], *side, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, matrix, patches = ctx.saved_tensors
        k, padding = ctx.k, ctx.padding
        of_maps = (
            _Convolution.apply(gradient, _flipped(matrix, k), k, k - 1 - padding) if ctx.needs_input_grad[0] else None
        )
        of_matrix = _WeightGradient.apply(maps, gradient, patches, k, padding) if ctx.needs_input_grad[1] else None
        return of_maps, of_matrix, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradient of `_Convolution` for its matrices, itself differentiable."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, gradient: Tensor, patches: Tensor, k: int, padding: int) -> Tensor:
        ctx.save_for_backward(gradient, patches)
        ctx.k, ctx.padding = k, padding
        return torch.bmm(patches.transpose(1, 2), gradient.reshape(len(maps), -1, gradient.shape[-1]))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, patches = ctx.saved_tensors
        k, padding = ctx.k, ctx.padding
        of_maps = (
            _Convolution.apply(gradient, _flipped(upstream, k), k, k - 1 - padding) if ctx.needs_input_grad[0] else None
        )
        of_gradient = torch.bmm(patches, upstream).view(gradient.shape) if ctx.needs_input_grad[1] else None
        return of_maps, of_gradient, None, None, None


class _Pooled(torch.autograd.Function):
    """Maps (T, n, h, w, C), centred by task, at the maxima of their tiles, and their variance (T, 1, C) by task.

    `share` (T, n, 1, 1, 1): each value's weight in mean and variance; None: all alike. `side`: of a tile.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, share: Tensor | None, side: int, sign: Tensor | None) -> tuple[Tensor, Tensor]:
        n_tasks, n, h, w, channels = maps.shape
        centred = (maps - _mean(maps, share)).contiguous()
        if share is None and maps.dtype.itemsize >= 4:
            variance = torch.linalg.vector_norm(centred.flatten(1, 3), dim=1, keepdim=True).square() / (n * h * w)
        else:
            wide = centred.float() if maps.dtype.itemsize < 4 else centred
            variance = _mean(wide.square(), share).view(n_tasks, 1, channels)
        index, out = None, centred
        if side > 1:
            signed = centred if sign is None else centred * sign[:, None, None, None]
            _, index = F.max_pool2d(_maps(signed), side, return_indices=True)
            index = index.permute(0, 2, 3, 1).flatten(1, 2)  # (T * n, tiles, C)
            out = centred.view(n_tasks * n, h * w, channels).gather(1, index)
            out = out.view(n_tasks, n, h // side, w // side, channels)
        ctx.save_for_backward(maps, centred, share, index)
        return out, variance

    @staticmethod
    def backward(ctx: Any, of_pooled: Tensor, of_variance: Tensor) -> tuple[Tensor | None, ...]:
        return _PooledGradient.apply(of_pooled, of_variance, *ctx.saved_tensors), None, None, None


class _PooledGradient(torch.autograd.Function):
    """The gradient of `_Pooled` for its maps, itself differentiable.

    With u the upstream gradient at the chosen values, g that of the variance, p the shares and c the
    centred maps: u, spread to where it came from, − p Σ u + 2 p g c.
    """

    @staticmethod
    def forward(
        ctx: Any,
        of_pooled: Tensor,
        of_variance: Tensor,
        maps: Tensor,
        centred: Tensor,
        share: Tensor | None,
        index: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(of_variance, centred, share, index)
        ctx.shape = of_pooled.shape
        p = _share(centred, share)
        total = of_pooled.sum((1, 2, 3), keepdim=True)
        out = torch.addcmul(-p * total, centred, (2 * p * of_variance[:, None, None]).to(centred.dtype))
        if index is None:
            return out + of_pooled
        tiles = of_pooled.reshape(len(index), -1, index.shape[-1])
        out.view(len(index), -1, index.shape[-1]).scatter_add_(1, index, tiles.to(out.dtype))
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_variance, centred, share, index = ctx.saved_tensors
        p = _share(centred, share)
        mean = _mean(upstream, share)
        of_of_pooled = upstream
        if index is not None:
            of_of_pooled = upstream.reshape(len(index), -1, index.shape[-1]).gather(1, index).view(ctx.shape)
        of_of_pooled = of_of_pooled - mean
        of_of_variance = 2 * _mean(upstream * centred, share)[:, :, 0, 0]  # Σ p c = 0: the mean changes nothing
        of_maps = (upstream - mean) * (2 * p * of_variance[:, None, None]).to(upstream.dtype)
        return of_of_pooled, of_of_variance.to(of_variance.dtype), of_maps, None, None, None


def _share(maps: Tensor, share: Tensor | None) -> Tensor | float:
    return share if share is not None else 1 / maps[0, ..., 0].numel()


def _mean(maps: Tensor, share: Tensor | None) -> Tensor:
    """Mean by task and channel of maps (T, n, h, w, C), (T, 1, 1, 1, C)."""
    if share is None:
        return maps.flatten(1, 3).mean(1)[:, None, None, None]
    return (maps * share).flatten(1, 3).sum(1)[:, None, None, None]


def _patches(maps: Tensor, k: int, padding: int) -> Tensor:
    """All k x k patches (T, n * h' * w', k * k * C) of maps (T, n, h, w, C)."""
    padded = F.pad(maps, (0, 0, padding, padding, padding, padding)) if padding else maps.contiguous()
    n_tasks, n, h, w, channels = padded.shape
    row, image = w * channels, h * w * channels
    shape = (n_tasks * n, h - k + 1, w - k + 1, k, k * channels)
    return padded.as_strided(shape, (image, row, channels, row, 1)).reshape(n_tasks, -1, k * k * channels)


def _flipped(matrix: Tensor, k: int) -> Tensor:
    """The matrices (T, k * k * out, in) that carry a convolution's gradient back to its input."""
    turned = matrix.unflatten(1, (k * k, -1)).flip(1)  # (T, k * k, in, out)
    return turned.transpose(2, 3).flatten(1, 2)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Inputs (T * n, in) by weights (T, out, in)."""
    by_task = inputs.unflatten(0, (len(weight), -1)).to(weight.dtype)  # (T, n, in)
    out = by_task @ weight.transpose(1, 2)
    return (out if bias is None else out + bias[:, None]).flatten(0, 1)


def _by_task(maps: Tensor, n_tasks: int) -> Tensor:
    return maps.permute(0, 2, 3, 1).unflatten(0, (n_tasks, -1))  # (T, n, h, w, C)


def _maps(by_task: Tensor) -> Tensor:
    return by_task.flatten(0, 1).permute(0, 3, 1, 2)  # (T * n, C, h, w)


def _per_task(weight: Tensor) -> Tensor:
    return weight.view(-1, 1, 1, 1, weight.shape[-1])  # (T or 1, 1, 1, 1, C)


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _tiles(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, **_: Any
) -> bool:
    """Whether a pooling's windows are square, lie side by side and never overlap."""
    side = _pair(kernel_size)
    return (
        side[0] == side[1]
        and (not stride or _pair(stride) == side)
        and (_pair(padding), _pair(dilation), ceil_mode) == ((0, 0), (1, 1), False)
    )


def _written_out(value: Any) -> Any:
    return value.pooled() if isinstance(value, _Normalised) else value
