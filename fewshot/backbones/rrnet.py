"""The network of R2-D2's authors, whose features are those of the last two blocks together."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.backbones.base import BACKBONES
from fewshot.backbones.convnet import ConvBlock
from fewshot.errors import ConfigError

LEAST_PX = 16  # three blocks halve the side, and a 2 x 2 pooling follows


class RRNet(nn.Module):
    """Four blocks of a 3x3 convolution, batch normalisation, max-pooling and leaky ReLU; features of the last two.

    Bertinetto, Henriques, Torr, Vedaldi, Meta-learning with differentiable closed-form solvers, ICLR 2019,
    https://arxiv.org/abs/1805.08136, and the authors' code, https://github.com/bertinetto/r2d2,
    fewshots/models/load_model.py at fc0c13e (`RRNet` has 96, 192, 384 and 512 filters, `RRNet_small` 64 in each block).
    The fourth block pools with stride 1. The third block's maps are pooled once more in the same way, so that both can
    be concatenated. There are 3,584, 8,064 and 72,576 features at 28, 32 and 84 px (with 64 filters 512, 1,152,
    10,368).

    Differs from the authors' code: convolutions have no bias, which batch normalisation would cancel.

    Args:
        in_channels: channels of the images.
        input_px: side of the images, at least 16 pixels.
        n_filters: filters of each of the four blocks.
        drop_rate: rate of dropout after the third and the fourth block, by default the authors' default; their
            experiments use 0.1 on mini-ImageNet, 0.4 on CIFAR-FS and 0 on Omniglot. Random numbers come from torch's
            global generator.
        negative_slope: negative slope of the leaky ReLU.

    Raises:
        ConfigError: for smaller images, and for another number of blocks.
    """

    pooling = "flatten"

    def __init__(
        self,
        in_channels: int,
        input_px: int,
        n_filters: Sequence[int] = (96, 192, 384, 512),
        drop_rate: float = 0.1,
        negative_slope: float = 0.1,
    ) -> None:
        super().__init__()
        if input_px < LEAST_PX:
            raise ConfigError(f"rrnet takes images of at least {LEAST_PX} x {LEAST_PX} pixels, got {input_px}")
        if len(n_filters) != 4:
            raise ConfigError(f"rrnet has four blocks, n_filters has {len(n_filters)} numbers: {n_filters}")
        blocks = []
        for i, (before, after) in enumerate(zip((in_channels, *n_filters), n_filters, strict=False)):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            pool = nn.MaxPool2d(2, stride=2 if i < 3 else 1)
            dropout = [nn.Dropout(drop_rate)] if i >= 2 else []
            blocks.append(ConvBlock(convolution, nn.BatchNorm2d(after), pool, nn.LeakyReLU(negative_slope), *dropout))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps (n, n_filters[2] + n_filters[3], h, w) of images (n, in_channels, input_px, input_px)."""
        for block in self.blocks[:3]:
            images = block(images)
        return torch.cat([F.max_pool2d(images, 2, stride=1), self.blocks[3](images)], 1)


BACKBONES.register("rrnet", RRNet, "R2-D2's network (Bertinetto et al. 2019): 96, 192, 384 and 512 filters")
BACKBONES.register("rrnet-small", partial(RRNet, n_filters=(64, 64, 64, 64)), "rrnet with 64 filters in each block")
