"""`create_backbone`, which creates a backbone by its name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fewshot.backbones.base import (
    BACKBONES,
    DEFAULT_INPUT_PX,
    FAMILIES,
    FAMILY_CHECKS,
    MOST_INPUT_PX,
    Backbone,
)
from fewshot.backbones.surgery.depthwise import train_depthwise_in_float32
from fewshot.backbones.viewed import Viewed
from fewshot.backbones.weights import load_weights, read_weights
from fewshot.errors import ConfigError, explaining
from fewshot.registry import Options, options_of


def create_backbone(
    name: str,
    in_channels: int = 3,
    input_px: int | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    views: dict[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> Backbone | Viewed:
    """Create a backbone: a registered one, `timm/<name>` or `torchvision/<name>`.

    Args:
        name: see `list_backbones`; or `timm/<name>`, `torchvision/<name>`.
        in_channels: channels of the images.
        input_px: side to which images are resized (default: the size for which the pretrained weights were made, else
            84).
        pretrained: load published weights; timm and torchvision download them.
        weights: a local .safetensors, .pth or .pt file with the weights of a backbone or of a body.
        views: options of `Viewed`, which averages the features of several views of each image.
        mean: mean of pixels in [0, 1], one number for each channel (default: that of the pretrained weights, else
            ImageNet's for three channels, else 0).
        std: standard deviation, like `mean` (else 1).
        options: options of the body.

    Returns:
        The network, which maps uint8 images (n, in_channels, H, W) to features (n, D).

    Raises:
        UnknownNameError: for an unknown name or option.
        ConfigError: for an option of the wrong type, and for options that exclude each other.
        CheckpointError: for weights that do not match the network.
    """
    given = {"pretrained": pretrained, "weights": weights, "views": views, "mean": mean, "std": std, **options}
    check_backbone(name, {"in_channels": in_channels, "input_px": input_px, **given})
    if pretrained and weights:
        raise ConfigError(f"backbone {name!r}: give either pretrained=True or weights={str(weights)!r}, not both")
    factory = _find_factory(name)
    if "pretrained" in inspect.signature(factory).parameters:
        with explaining(f"backbone {name!r}", options):
            body = factory(in_channels, input_px, pretrained=pretrained, weights=weights, **options)
    elif pretrained:
        raise ConfigError(
            f"backbone {name!r} has no published weights: pretrained=True is for efficientnet-lite0, "
            "timm/… and torchvision/…; give weights=… to load a local file"
        )
    else:
        with explaining(f"backbone {name!r}", options):
            body = factory(in_channels, input_px or DEFAULT_INPUT_PX, **options)
        if weights:
            load_weights(body, read_weights(weights), str(weights))
    train_depthwise_in_float32(body)
    input_px = getattr(body, "input_px", input_px or DEFAULT_INPUT_PX)
    pixels = {key: given or getattr(body, key, None) for key, given in (("mean", mean), ("std", std))}
    backbone = Backbone(body, in_channels, input_px, getattr(body, "pooling", None), **pixels)
    if not views:
        return backbone
    return Viewed(backbone, **views)


def list_backbones() -> list[str]:
    """List the registered names; `timm/<name>` and `torchvision/<name>` work too."""
    return BACKBONES.names()


def backbone_options(name: str) -> Options:
    """List the options that `create_backbone` accepts for `name`: those of every backbone, and those of the body."""
    of_all = options_of(create_backbone, "", n_given=1)
    of_body = options_of(_find_factory(name), f"backbone {name!r}", n_given=2)
    return replace(of_body, known={**of_body.known, **of_all.known})


def check_backbone(name: str, options: Mapping[str, Any]) -> None:
    """Check the name and options of a backbone, without its weights; raises like `create_backbone`."""
    known = backbone_options(name)
    known.check(options)
    family, slash, model_name = name.partition("/")
    if slash and family in FAMILY_CHECKS:
        of_model = {key: value for key, value in options.items() if key not in known.known}
        with explaining(f"backbone {name!r}", of_model):
            FAMILY_CHECKS[family](model_name, of_model)
    side_px, in_channels = options.get("input_px"), options.get("in_channels", 3)
    if in_channels < 1:
        raise ConfigError(f"in_channels is a number of channels, at least 1, got {in_channels}")
    if side_px is not None and not 1 <= side_px <= MOST_INPUT_PX:
        raise ConfigError(f"images have sides from 1 to {MOST_INPUT_PX:,} px, got {side_px}")
    options_of(Viewed, "views", n_given=1).check(options.get("views") or {})


def _find_factory(name: str) -> Callable[..., nn.Module]:
    family, slash, model_name = name.partition("/")
    return partial(FAMILIES[family], model_name) if slash else BACKBONES[name]
