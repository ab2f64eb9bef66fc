"""Wide residual networks, the largest backbones that few-shot papers usually train from scratch."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.backbones.base import BACKBONES
from fewshot.errors import ConfigError

WIDTHS = (16, 32, 64)  # channels of the three groups, times `widen`


class WideBlock(nn.Module):
    """Twice batch normalisation, ReLU and a convolution, with dropout in between; plus a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False) if changes else None

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, channels, h / stride, w / stride)."""
        active = F.relu(self.norm1(maps))
        out = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        return out + (maps if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """A wide residual network of `depth` layers, without its classifier.

    Args:
        in_channels: channels of the images.
        input_px: side of the images.
        depth: number of layers, 4 more than a multiple of 6.
        widen: factor by which the channels 16, 32 and 64 are multiplied.
        drop_rate: rate of dropout between the convolutions of a block.

    Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146: pre-activation blocks in three
    groups of 16, 32 and 64 times `widen` channels; the last two halve the side. Random numbers come from torch's
    global generator. Convolutions are initialised from N(0, 2 / fan_out), as in the authors' code.
    """

    pooling = "mean"

    def __init__(
        self, in_channels: int, input_px: int, depth: int = 28, widen: int = 10, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ConfigError(f"the depth of a wide ResNet is 6 n + 4 with n >= 1, got {depth}")
        self.stem = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        blocks, before = [], WIDTHS[0]
        for group, width in enumerate(WIDTHS):
            for i in range((depth - 4) // 6):
                stride = 2 if group > 0 and i == 0 else 1
                blocks.append(WideBlock(before, width * widen, stride, drop_rate))
                before = width * widen
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(before)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps (n, 64 * widen, h, w) of images (n, in_channels, input_px, input_px)."""
        return F.relu(self.norm(self.blocks(self.stem(images))))


BACKBONES.register("wrn28-10", partial(WideResNet, depth=28, widen=10), "WRN-28-10 (Zagoruyko & Komodakis 2016): 640-d")
