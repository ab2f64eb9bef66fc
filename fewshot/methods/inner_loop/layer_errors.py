"""Turn errors inside a layer that a method cannot use into `ConfigError` with the name of the layer."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fewshot.errors import ConfigError, FewShotError

RAISED_BY_LAYERS = (RuntimeError, TypeError, ValueError, AttributeError, IndexError)


class RowsError(ValueError):
    """Rows that cannot be assigned to images."""


@contextmanager
def name_failing_layer(network: nn.Module, kinds: tuple[type[Exception], ...], what: str) -> Iterator[None]:
    """Within the block an error of `kinds` in a layer of `network` becomes a `ConfigError` with the name of the layer.

    `what` says what the layer cannot do. Errors of this package and lack of memory are not changed.
    """
    try:
        yield
    except (FewShotError, torch.OutOfMemoryError):
        raise
    except kinds as error:
        name = _find_layer(error, network)
        if name is None:
            raise
        raise ConfigError(f"the layer {name} cannot {what}: {error}") from error


def describe_layer(name: str, layer: nn.Module) -> str:
    """Describe a layer as `'body.stem.norm' (BatchNorm2d)`; the whole network has no name."""
    return f"{name!r} ({type(layer).__name__})" if name else type(layer).__name__


def _find_layer(error: BaseException, network: nn.Module) -> str | None:
    """Find the innermost layer of `network` in whose code `error` was raised."""
    names = {id(layer): describe_layer(name, layer) for name, layer in network.named_modules()}
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self")), found)
    return found
