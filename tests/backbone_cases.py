"""Small forms of all backbones, for tests that do not depend on the size."""

import importlib.util

import pytest
import torch
from torch import nn

from fewshot import create_backbone, list_backbones
from fewshot.backbones import Backbone, Viewed
from fewshot.runtime import seeding

PX = 32
SMALL = {
    "resnet12": {"channels": (8, 16, 24, 32)},
    "resnet12-wide": {"channels": (8, 16, 24, 32)},
    "resnet18": {"n_blocks": (1, 1, 1, 1)},
    "resnet34": {"n_blocks": (2, 1, 1, 1)},
    "wrn28-10": {"depth": 10, "widen": 1},
}
VIEWS = {"turns": 8, "find_circle": True, "colour": 1.0, "radius": 1.0, "rings": "blocks.1"}
VIEWED = "conv4 with views"
PACKAGES = {
    "efficientnet-lite0": "timm",
    "timm/mobilenetv3_small_050": "timm",
    "torchvision/mobilenet_v3_small": "torchvision",
}
NAMES = list(dict.fromkeys([*list_backbones(), *PACKAGES, VIEWED]))


def small_backbone(name: str, in_channels: int = 3) -> Backbone | Viewed:
    """A seeded backbone of `NAMES` for images of `PX` pixels, with statistics unlike those of a fresh network."""
    package = PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} needs {package}, which is not installed")
    with seeding.fork(0, "test"):
        if name == VIEWED:
            backbone = create_backbone("conv4", in_channels, PX, n_filters=8, views=VIEWS)
        else:
            backbone = create_backbone(name, in_channels, PX, **SMALL.get(name, {}))
        for norm in backbone.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.running_mean, 0, 0.1)
                nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return backbone


def without_dropout(module: nn.Module) -> nn.Module:
    """The module, its dropout off: it draws differently on each device."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if hasattr(part, "drop_rate"):
            part.drop_rate = 0.0
    return module


def photographs(n: int) -> torch.Tensor:
    """Smooth colour images (n, 3, PX, PX), uint8: no two pixels' order depends on rounding."""
    coarse = torch.rand(n, 3, 8, 8, generator=seeding.generator(0, "photographs"))
    return (255 * nn.functional.interpolate(coarse, (PX, PX), mode="bilinear")).round().to(torch.uint8)
