"""The small convolutional networks of the few-shot papers."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import has_torch_function

from fewshot.backbones.base import BACKBONES, Pooling
from fewshot.errors import ConfigError


class ConvBlock(nn.Sequential):
    """A convolution, batch normalisation, and the layers after them.

    In evaluation mode without gradients the normalisation is folded into the weights of the convolution. The result is
    the same up to rounding and saves a pass over the largest maps. It is not folded if a `TorchFunctionMode` is active,
    which may replace the statistics.
    """

    calls_in_order = True  # under a TorchFunctionMode `forward` calls the layers one after the other

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, n_filters, h, w)."""
        if self.training or torch.is_grad_enabled() or has_torch_function((images,)):
            return super().forward(images)
        convolution, norm, *rest = self
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (n_filters,)
        bias = norm.bias - norm.running_mean * scale
        weight = convolution.weight * scale[:, None, None, None]
        maps = F.conv2d(images, weight, bias, convolution.stride, convolution.padding)
        for layer in rest:
            maps = layer(maps)
        return maps


class ConvNet(nn.Module):
    """`depth` blocks of a 3x3 convolution, batch normalisation, max-pooling and ReLU.

    Args:
        in_channels: channels of the images.
        input_px: side of the images.
        depth: number of blocks.
        n_filters: filters of each convolution.
        n_pooled: number of blocks that pool: the first ones.
        n_unpadded: number of convolutions without padding: the first ones.
        strided: use convolutions of stride 2 instead of pooling, as in MAML.
        pooling: how the last maps become features.
        norm_eps: constant that batch normalisation adds to the variance; 1e-3 in TensorFlow, which MAML uses.

    Matching Networks (Vinyals et al. 2016, https://arxiv.org/abs/1606.04080) and Prototypical
    Networks (Snell et al. 2017, https://arxiv.org/abs/1703.05175). The papers pool after ReLU. Since ReLU is monotone,
    pooling before it gives the same result, and saves 7% to 17% of a training step on a CPU.

    Differs from the papers: convolutions have no bias, which batch normalisation would cancel (Adam
    turns the rounding noise of its gradient into a walk); initialised as PyTorch does (Snell's code
    draws the scale of batch normalisation from U(0, 1), Chen 2019 convolutions from N(0, 2 / fan_out)).
    With `strided`, padding is one pixel on each side where TensorFlow pads right and below only, and
    batch normalisation has a scale, which MAML's has not.
    """

    def __init__(
        self,
        in_channels: int,
        input_px: int,
        depth: int = 4,
        n_filters: int = 64,
        n_pooled: int = 4,
        n_unpadded: int = 0,
        strided: bool = False,
        pooling: Pooling = "flatten",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        side_px = input_px
        blocks = []
        for i in range(depth):
            pooled, padding = i < n_pooled and not strided, 0 if i < n_unpadded else 1
            side_px -= 2 * (1 - padding)
            side_px = (side_px + 1) // 2 if strided else side_px // 2 if pooled else side_px
            channels = in_channels if i == 0 else n_filters
            convolution = nn.Conv2d(channels, n_filters, 3, stride=2 if strided else 1, padding=padding, bias=False)
            pool = [nn.MaxPool2d(2)] if pooled else []
            blocks.append(ConvBlock(convolution, nn.BatchNorm2d(n_filters, eps=norm_eps), *pool, nn.ReLU()))
        if side_px < 1:
            raise ConfigError(
                f"images of {input_px} x {input_px} pixels are too small for {depth} blocks of which "
                f"{min(n_pooled, depth)} halve the side"
            )
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps (n, n_filters, h, w) of images (n, in_channels, input_px, input_px)."""
        return self.blocks(images)


BLOCKS = "blocks of a 3x3 convolution, batch normalisation, max-pooling and ReLU"
BACKBONES.register("conv4", partial(ConvNet, depth=4), f"four {BLOCKS}: 64-d at 28 px, 1600-d at 84 px")
BACKBONES.register("conv4-32", partial(ConvNet, depth=4, n_filters=32), "conv4 with 32 filters: MAML on miniImageNet")
BACKBONES.register("conv6", partial(ConvNet, depth=6), f"six {BLOCKS}, of which four pool: Chen et al. 2019")
BACKBONES.register(
    "conv4-relation",
    partial(ConvNet, depth=4, n_pooled=2, n_unpadded=2),
    "Relation Network (Sung et al. 2018): maps of 64 x 5 x 5 at 28 px, 64 x 19 x 19 at 84 px",
)
BACKBONES.register(
    "conv4-strided",
    partial(ConvNet, depth=4, strided=True, pooling="mean"),
    "MAML on Omniglot (Finn et al. 2017): stride 2 in place of pooling, spatial mean, 64-d at any size",
)
