"""Batch normalisation by the statistics of each episode, which makes a convolutional network transductive."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fewshot.errors import ConfigError
from fewshot.methods.inner_loop.layer_errors import RowsError, describe_layer, name_failing_layer

NORMS, BATCH_NORMS = nn.modules.batchnorm._NormBase, nn.modules.batchnorm._BatchNorm
BATCH_NORM = inspect.signature(F.batch_norm)


class EpisodeStatistics(TorchFunctionMode):
    """Within the block every batch normalisation uses the statistics of each episode, in training and evaluation mode.

    Inputs must be (n_episodes * n_images * k, C, ...): episode after episode, with k rows for each image (k > 1 if a
    network treats the positions of its maps as rows). Mean and biased variance are computed over the rows of an
    episode; running statistics are neither used nor changed. Weight standardisation, which normalises the weights of a
    convolution as a batch of one, is not changed. Raises `RowsError` if rows do not belong to images.

    `counted` (n_episodes, n_images) bool: the images from which statistics are computed (None: all of them; a number:
    the first so many of each episode).
    """

    def __init__(self, n_episodes: int, n_images: int, counted: Tensor | int | None = None) -> None:
        super().__init__()
        self.n_episodes, self.n_images, self.counted = n_episodes, n_images, counted

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            given = BATCH_NORM.bind(*args, **(kwargs or {})).arguments
            if not self._standardises_weights(given["input"], given.get("running_mean")):
                return self.normalise(given["input"], given.get("weight"), given.get("bias"), given.get("eps", 1e-5))
        return func(*args, **(kwargs or {}))

    def count_rows_of_image(self, inputs: Tensor) -> int:
        """Count the rows of `inputs` for each image; raises `RowsError` if rows do not belong to images."""
        n_images = self.n_episodes * self.n_images
        if inputs.ndim == 0 or len(inputs) == 0 or len(inputs) % n_images:
            raise RowsError(
                f"the rows of its input {tuple(inputs.shape)} are not those of images: their number is no multiple of "
                f"{self.n_episodes} x {self.n_images}"
            )
        return len(inputs) // n_images

    def _standardises_weights(self, inputs: Tensor, running_mean: Tensor | None) -> bool:
        return running_mean is None and len(inputs) == 1 < self.n_episodes * self.n_images

    def choose_rows(self, inputs: Tensor) -> Tensor | int | None:
        """Convert `counted` from images to the rows of `inputs`."""
        rows = self.count_rows_of_image(inputs)
        if self.counted is None or rows == 1:
            return self.counted
        return self.counted * rows if isinstance(self.counted, int) else self.counted.repeat_interleave(rows, 1)

    def normalise(self, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """Normalise `inputs` (n_episodes * n_rows, C, ...) by the statistics of their episode, then scale and shift."""
        rows_counted = self.choose_rows(inputs)
        x = inputs.unflatten(0, (self.n_episodes, -1))  # (n_episodes, n_rows, C, ...)
        counted = make_mask(rows_counted, x)
        normalised = normalise_by_kernel(x, counted, weight, bias, eps)
        if normalised is not None:
            return normalised
        x = x.float() if x.dtype.itemsize < 4 else x
        across, more = [1, *range(3, x.ndim)], [1] * (x.ndim - 3)
        if counted is None:
            centred = x - x.mean(across, keepdim=True)
            variance = centred.square().mean(across, keepdim=True)
        else:
            share = counted.to(x.dtype).view(*counted.shape, *[1] * (x.ndim - 2))  # (n_episodes, n_rows, 1, ...)
            share = share / share.sum(1, keepdim=True) / x[0, 0, 0].numel()
            centred = x - (x * share).sum(across, keepdim=True)
            variance = (centred.square() * share).sum(across, keepdim=True)
        scale = torch.rsqrt(variance + eps)
        if weight is not None:  # (C,), or (n_episodes, C)
            scale = scale * weight.view(-1, 1, weight.shape[-1], *more)
        normalised = centred * scale
        if bias is not None:
            normalised = normalised + bias.view(-1, 1, bias.shape[-1], *more)
        return normalised.flatten(0, 1).to(inputs.dtype)


def make_mask(counted: Tensor | int | None, x: Tensor) -> Tensor | None:
    """Make a mask (n_episodes, m) of the rows of `x` (n_episodes, m, ...) that are `counted`; None: all of them."""
    if isinstance(counted, int):
        return (torch.arange(x.shape[1], device=x.device) < counted).expand(len(x), -1)
    return counted


def normalise_by_kernel(
    x: Tensor, counted: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor | None:
    """Normalise `x` (n_episodes, m, C, ...) by torch's kernels, episode after episode: (n_episodes * m, C, ...).

    `counted` (n_episodes, m) bool; None: all. Returns None if no kernel can do it: if each episode has its own weights,
    and for gradients through statistics of only some of the rows.
    """
    if any(t is not None and t.ndim != 1 for t in (weight, bias)):
        return None
    if counted is None or counted.all():
        parts = [torch.batch_norm(part, weight, bias, None, None, True, 0.0, eps, False) for part in x]
    elif torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return None
    else:
        parts = [_normalise_by_rows(part[rows], part, weight, bias, eps) for part, rows in zip(x, counted, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _normalise_by_rows(rows: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise `x` (m, C, ...) by mean and biased variance of `rows` (k, C, ...), then scale and shift."""
    mean, variance = moments(rows)
    return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance (C,), in float32 or wider, of rows (k, C, ...).

    Half-precision types use the kernel of batch normalisation, whose running statistics with momentum 1 are those of
    the last batch: on a CPU this is 12 times as fast as `torch.var_mean` in float32, which wider types use for its
    accuracy.
    """
    n_values = rows[:, 0].numel()
    if rows.dtype.itemsize >= 4 or n_values == 1:
        wide = torch.promote_types(rows.dtype, torch.float32)
        variance, mean = torch.var_mean(rows.to(wide), [0, *range(2, rows.ndim)], correction=0)
        return mean, variance
    mean, variance = (torch.zeros(rows.shape[1], device=rows.device) for _ in range(2))
    torch.batch_norm(rows, None, None, mean, variance, True, 1.0, 0.0, False)
    return mean, variance * ((n_values - 1) / n_values)


@contextmanager
def episode_statistics(
    module: nn.Module, n_episodes: int, n_images: int, counted: Tensor | int | None = None
) -> Iterator[None]:
    """Within the block `module` normalises by episode, see `EpisodeStatistics`; its own state does not change."""
    named = name_failing_layer(module, (RowsError,), "normalise each episode by its own statistics")
    with norms_in_eval(module), named, EpisodeStatistics(n_episodes, n_images, counted):
        yield


def refuse_other_statistics(network: nn.Module, method: str) -> None:
    """Raise `ConfigError` for a layer with weights and running statistics that is no batch normalisation."""
    for name, layer in network.named_modules():
        kept = [key for key, _ in layer.named_buffers(recurse=False) if key.startswith("running_")]
        if kept and not isinstance(layer, BATCH_NORMS) and any(p is not None for p in layer._parameters.values()):
            raise ConfigError(
                f"{method} normalises by the statistics of each episode, which the layer {describe_layer(name, layer)} "
                f"cannot do: it keeps statistics of its own ({', '.join(kept)})"
            )


@contextmanager
def norms_in_eval(module: nn.Module) -> Iterator[None]:
    """Within the block batch normalisation does not count batches and does not communicate between processes."""
    norms = [child for child in module.modules() if isinstance(child, NORMS) and child.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
