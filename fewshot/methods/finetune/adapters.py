"""Bottleneck adapters: a small residual network after each block, which is the identity at the start."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.finetune.blocks import Block, find_blocks
from fewshot.methods.finetune.options import Changes


class Bottleneck(nn.Module):
    """Computes h + up(relu(down(h))) on the channels of h; `down` maps to `width` channels, `up` starts as zero."""

    def __init__(self, channels: int, width: int, channel_dim: int) -> None:
        super().__init__()
        self.channel_dim = channel_dim
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Map h, maps (n, c, h, w) or (n, h, w, c) or tokens (n, t, c), to the same shape."""
        change = self.up(F.relu(self.down(h.movedim(self.channel_dim, -1))))
        return h + change.movedim(-1, self.channel_dim)


def add_adapters(backbone: nn.Module, changes: Changes) -> nn.Module:
    """Add a `Bottleneck` of `adapter_width` after each block of `backbone`, and return all of them.

    Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019, https://arxiv.org/abs/1902.00751;
    for convolutions: Rebuffi, Bilen, Vedaldi, Learning multiple visual domains with residual adapters, NeurIPS
    2017, https://arxiv.org/abs/1705.08045. peft has no such adapters. Differs from the papers: one adapter after
    each block, where Houlsby has one after each of a transformer block's two parts; Rebuffi's are a single matrix
    and a batch normalisation at each convolution, ours a bottleneck without one.
    """
    blocks = find_blocks(backbone)
    like = next(backbone.parameters())
    adapters = nn.ModuleList()
    for (name, block), shape in zip(blocks, _find_output_shapes(backbone, blocks, like), strict=True):
        if shape is None:
            raise ConfigError(f"finetune: mode 'adapter' needs blocks that give maps or tokens; {name} gives neither")
        dim = find_channel_dim(shape)
        adapter = Bottleneck(shape[dim], changes.adapter_width, dim).to(like)
        block.register_forward_hook(lambda _block, _inputs, output, adapter=adapter: adapter(output))
        adapters.append(adapter)
    return adapters


def find_channel_dim(shape: tuple[int, ...]) -> int:
    """Find the dimension of the channels: the last one for tokens (n, t, c) and square maps (n, h, w, c), else 1."""
    channels_come_last = len(shape) != 4 or (shape[1] == shape[2] != shape[3])
    return -1 if channels_come_last else 1


@torch.no_grad()
def _find_output_shapes(backbone: nn.Module, blocks: list[Block], like: Tensor) -> list[tuple[int, ...] | None]:
    """Find the output shape of each block for one blank image; None if it is no tensor of two or more dimensions."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def watch(block: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 1:
            shapes[block] = tuple(output.shape)

    hooks = [block.register_forward_hook(watch) for _, block in blocks]
    side = backbone.input_px
    backbone(like.new_zeros(1, backbone.in_channels, side, side))
    for hook in hooks:
        hook.remove()
    return [shapes.get(block) for _, block in blocks]
