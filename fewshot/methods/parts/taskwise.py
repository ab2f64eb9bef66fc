"""Networks with weights of their own for each task, all tasks in one pass: what MAML's inner loop runs on.

A network runs as it is; while it does, the functions of its layers are replaced by those of `task_layers`.
Where batch normalisation is followed by max-pooling, only the pooled values are normalised: the values before
pooling are the largest tensors of such networks, and each pass saved counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.parts.episode_statistics import BATCH_NORM, EpisodeStatistics, as_mask, by_kernel
from fewshot.methods.parts.task_convolution import Convolution, Geometry
from fewshot.methods.parts.task_layers import Pooled, by_task, images_of, linear

LAYERS = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)  # whose weights may differ between tasks


class TaskWise(EpisodeStatistics):
    """Within the block layers take weights with a leading task dimension T, inputs are (T * n, ...).

    Convolutions (T, out, in, k, k), linear layers (T, out, in), batch normalisation (T, C), which uses
    each task's own statistics; weights without the task dimension are shared by all tasks.
    `dtype`: what convolutions compute in (None: what their inputs are in).
    """

    def __init__(self, n_tasks: int, counted: Tensor | int | None = None, dtype: torch.dtype | None = None) -> None:
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
                return _Normalised(by_task(maps, self.n_tasks), self.counted, weight, bias, eps)
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
        # gradients of depthwise convolutions on a CPU: see `fewshot.backbones.depthwise`
        depthwise, graded = groups == maps.shape[1] > 1, maps.requires_grad or weight.requires_grad
        exact = maps.device.type == "cpu" and depthwise and graded
        inner = torch.promote_types(dtype, torch.float32) if exact else dtype
        maps, weight = maps.to(inner), weight.to(inner)
        if weight.ndim == 4:
            bias = None if bias is None else bias.to(inner)
            return torch.conv2d(maps, weight, bias, stride, padding, dilation, groups).to(dtype)
        n_tasks, n_out, _, k, width = weight.shape
        (pad, pad_width), (step, step_width) = _pair(padding), _pair(stride)
        plain = set(_pair(dilation)) == {1} and groups == 1
        if plain and (k, pad, step) == (width, pad_width, step_width) and pad < k:
            matrix = weight.permute(0, 3, 4, 2, 1).reshape(n_tasks, -1, n_out)
            out = images_of(Convolution.apply(by_task(maps, n_tasks), matrix, Geometry(k, pad, step)))
        else:  # tasks as groups of channels
            grouped = maps.unflatten(0, (n_tasks, -1)).transpose(0, 1).flatten(1, 2)  # (n, T * in, h, w)
            out = torch.conv2d(grouped, weight.flatten(0, 1), None, stride, padding, dilation, n_tasks * groups)
            out = out.to(dtype)
            out = out.unflatten(1, (n_tasks, n_out)).transpose(0, 1).flatten(0, 1)
        return out if bias is None else out + bias.to(dtype).repeat_interleave(len(maps) // n_tasks, 0)[..., None, None]


@dataclass
class _Normalised:
    """Maps whose batch normalisation is not written out yet, so that pooling may come first.

    `maps` (T, n, h, w, C); `counted`, `weight`, `bias`, `eps`: as in `EpisodeStatistics.normalise`.
    """

    maps: Tensor
    counted: Tensor | int | None
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def pooled(self, side: Any = 1) -> Tensor:
        """Normalised maximum of each `side` x `side` tile, (T * n, C, h, w)."""
        if side == 1 and self.maps.device.type == "cpu" and self.maps.dtype.itemsize < 4:
            maps = self.maps.permute(0, 1, 4, 2, 3)  # (T, n, C, h, w)
            normalised = by_kernel(maps, as_mask(self.counted, maps), self.weight, self.bias, self.eps)
            if normalised is not None:
                return normalised
        sign = None
        if self.weight is not None and bool((self.weight < 0).any()):
            sign = torch.where(self.weight < 0, -1.0, 1.0).to(self.maps.dtype)
            sign = sign.expand(len(self.maps), -1)  # where the scale is negative the minimum becomes the maximum
        share, leading = None, self.counted if isinstance(self.counted, int) else self.maps.shape[1]
        if isinstance(self.counted, Tensor):
            share = self.counted.to(self.maps.dtype)  # (T, n)
            share = (share / share.sum(1, keepdim=True) / self.maps[0, 0, ..., 0].numel())[:, :, None, None, None]
        centred, variance = Pooled.apply(self.maps, leading, share, _pair(side)[0], sign)
        scale = torch.rsqrt(variance + self.eps)[:, None, None]  # (T, 1, 1, 1, C)
        if self.weight is not None:
            scale = scale * _per_task(self.weight)
        scale = scale.to(centred.dtype)
        out = centred * scale if self.bias is None else torch.addcmul(_per_task(self.bias).to(scale), centred, scale)
        return images_of(out)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pooled(), name)

    def __add__(self, other: Any) -> Tensor:
        return self.pooled() + _written_out(other)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*map(_written_out, args), **(kwargs or {}))


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
