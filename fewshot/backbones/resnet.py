"""Residual networks as the few-shot papers use them."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.backbones.base import BACKBONES, Pooling
from fewshot.errors import ConfigError

LEAK = 0.1  # negative slope of LeakyReLU


class Block12(nn.Module):
    """Three 3x3 convolutions and a 1x1 shortcut, all with batch normalisation, then 2x2 max-pooling.

    LeakyReLU is monotone, so applying the last one after pooling gives the same result with less work.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv2d(channels if i else in_channels, channels, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, in_channels, h, w) to (n, channels, h / 2, w / 2)."""
        return F.leaky_relu(F.max_pool2d(self.layers(maps) + self.shortcut(maps), 2), LEAK)


class ResNet12(nn.Module):
    """Four blocks of three convolutions; the usual few-shot ResNet.

    Args:
        in_channels: channels of the images.
        input_px: side of the images.
        channels: channels of each of the four blocks.
        drop_rate: rate of dropout after the first two blocks and of DropBlock after the last two.
        drop_block_px: width of DropBlock's blocks; MetaOptNet uses 2 on CIFAR-FS.
        pooling: how the last maps become features; "flatten" gives MetaOptNet's 16,000-d at 84 px.

    Plain form, 64-128-256-512: Chen et al. 2021 (Meta-Baseline), https://arxiv.org/abs/2003.04390. Wide form,
    64-160-320-640: Lee et al. 2019 (MetaOptNet), https://arxiv.org/abs/1904.03758, with dropout after the first two
    blocks and DropBlock after the last two (their code). Random numbers come from torch's global generator.
    Differs from MetaOptNet: the rate is constant, where theirs rises over the first 40,000 steps, and features are
    averaged over space; `pooling="flatten"` gives their 16,000-d at 84 px.
    """

    def __init__(
        self,
        in_channels: int,
        input_px: int,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        drop_rate: float = 0.0,
        drop_block_px: int = 5,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        if input_px < 2 ** len(channels):
            raise ConfigError(f"ResNet-12 halves the side {len(channels)} times: {input_px} px is too small for it")
        if not 0 <= drop_rate < 1:
            raise ConfigError(f"drop_rate is in [0, 1), got {drop_rate}")
        self.drop_rate, self.drop_block_px, self.pooling = drop_rate, drop_block_px, pooling
        before = (in_channels, *channels)
        self.blocks = nn.Sequential(*map(Block12, before, channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps (n, channels[-1], h, w) of images (n, in_channels, input_px, input_px)."""
        maps = images
        for i, block in enumerate(self.blocks):
            maps = block(maps)
            if self.training and self.drop_rate:
                spatial = i >= len(self.blocks) - 2
                maps = (
                    drop_block(maps, self.drop_rate, self.drop_block_px) if spatial else F.dropout(maps, self.drop_rate)
                )
        return maps


def drop_block(maps: Tensor, rate: float, block_px: int) -> Tensor:
    """Set random squares of maps (n, c, h, w) to zero, separately in each channel, about `rate` of the area in total.

    DropBlock, Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890. Squares are no larger than the map and lie inside
    it. The remaining values are scaled so that the mean stays the same. torchvision has this function too, but sums the
    mask in the dtype of the maps, which overflows in float16.
    """
    height, width = maps.shape[2:]
    side = min(block_px, height, width)
    n_corners = (height - side + 1) * (width - side + 1)
    corner_rate = rate * height * width / (side**2 * n_corners)
    corners = torch.rand_like(maps[..., side - 1 :, side - 1 :], dtype=torch.float32) < corner_rate
    padded = F.pad(corners.float(), [side - 1] * 4)
    kept = 1 - F.max_pool2d(padded, side, stride=1)  # (n, c, h, w)
    return maps * (kept * (kept.numel() / kept.sum().clamp(min=1))).to(maps.dtype)


def residual_net(
    in_channels: int,
    input_px: int,
    n_blocks: tuple[int, ...] = (2, 2, 2, 2),
    stem: Literal["large", "small"] = "large",
) -> nn.Module:
    """A ResNet of basic blocks in the form of Chen et al. 2019, A Closer Look at Few-shot Classification.

    Args:
        in_channels: channels of the images.
        input_px: side of the images.
        n_blocks: number of blocks in each of the four stages.
        stem: "large": 7x7, stride 2, and max-pooling, for images of 224 px; "small": 3x3, stride 1, no pooling, for
            small images.

    https://arxiv.org/abs/1904.04232. Their network, initialisation included, is torchvision's, with
    (1, 1, 1, 1), (2, 2, 2, 2) or (3, 4, 6, 3) blocks, averaged to 512-d.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    if stem not in ("large", "small"):
        raise ConfigError(f"the stem of a ResNet is 'large' or 'small', got {stem!r}")
    net = ResNet(BasicBlock, list(n_blocks), num_classes=1)
    parts = dict(net.named_children())
    kernel, stride = (7, 2) if stem == "large" else (3, 1)
    parts["conv1"] = nn.Conv2d(in_channels, 64, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(parts["conv1"].weight, mode="fan_out", nonlinearity="relu")
    without = {"avgpool", "fc"} | ({"maxpool"} if stem == "small" else set())
    body = nn.Sequential()
    for name, part in parts.items():
        if name not in without:
            body.add_module(name, part)
    body.pooling = "mean"  # type: ignore[assignment]
    return body


BACKBONES.register("resnet12", partial(ResNet12, channels=(64, 128, 256, 512)), "of Meta-Baseline: 512-d")
BACKBONES.register(
    "resnet12-wide",
    partial(ResNet12, channels=(64, 160, 320, 640), drop_rate=0.1),
    "of MetaOptNet: 640-d, dropout",
)
BACKBONES.register("resnet10", partial(residual_net, n_blocks=(1, 1, 1, 1)), "of Chen et al. 2019: 512-d")
BACKBONES.register("resnet18", partial(residual_net, n_blocks=(2, 2, 2, 2)), "of Chen et al. 2019: 512-d")
BACKBONES.register("resnet34", partial(residual_net, n_blocks=(3, 4, 6, 3)), "of Chen et al. 2019: 512-d")
