"""Visual prompt tuning: learned tokens besides those of an image, or learned pixels around it."""

import math

import torch
from torch import Tensor, nn

from fewshot.errors import ConfigError
from fewshot.methods.finetune.options import Changes


class Prompts(nn.Module):
    """Learned tokens (depth, n_prompts, c): for the first block, or with depth > 1 for each block."""

    def __init__(self, depth: int, n_prompts: int, channels: int, patch_values: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (patch_values + channels))  # Xavier for a patch's values, as in the authors' code
        self.tokens = nn.Parameter(torch.empty(depth, n_prompts, channels).uniform_(-bound, bound))

    def put(self, tokens: Tensor, after: int, i: int) -> Tensor:
        """Insert the prompts of block i after the first `after` tokens (n, t, c); from block 1 on replace the old."""
        n_prompts = self.tokens.shape[1]
        rest = after if i == 0 else after + n_prompts
        prompts = self.tokens[i].to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :after], prompts, tokens[:, rest:]], 1)

    def take_out(self, tokens: Tensor, after: int) -> Tensor:
        """Remove the prompts from `tokens` (n, t + n_prompts, c)."""
        return torch.cat([tokens[:, :after], tokens[:, after + self.tokens.shape[1] :]], 1)


class Frame(nn.Module):
    """Learned pixels around an image, `width` on each side: `rows` above and below, `columns` left and right.

    They start at random values from 0 to 1, and are normalised like the images of `backbone`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        channels, side = backbone.in_channels, backbone.input_px
        self.rows = nn.Parameter(torch.rand(channels, 2 * width, side + 2 * width))
        self.columns = nn.Parameter(torch.rand(channels, side, 2 * width))
        for name, values in (("mean", backbone.mean), ("std", backbone.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Put the frame around prepared images (n, c, h, w): (n, c, h + 2 width, w + 2 width)."""
        rows, columns = (
            ((pixels - self.mean) / self.std).to(images.dtype).expand(len(images), -1, -1, -1)
            for pixels in (self.rows, self.columns)
        )
        (above, below), (left, right) = rows.chunk(2, 2), columns.chunk(2, 3)
        return torch.cat([above, torch.cat([left, images, right], 3), below], 2)


def add_prompts(backbone: nn.Module, changes: Changes) -> nn.Module:
    """Add `n_prompts` learned tokens to a timm VisionTransformer, or a frame of learned pixels to another network.

    Jia et al., Visual Prompt Tuning, ECCV 2022, https://arxiv.org/abs/2203.12119.
    Tokens: section 3.2, in the first block (VPT-Shallow), or with `deep_prompts` new ones in each (VPT-Deep). They
        follow
    the class token and are removed before the last normalisation, so they are never pooled.
    Differs from the paper: no dropout on them.
    Pixels: the paper's form for ConvNets, as in the authors' code (github.com/KMnP/vpt, prompts called "pad").
    """
    from timm.models.vision_transformer import VisionTransformer

    body = next((part for part in backbone.modules() if isinstance(part, VisionTransformer)), None)
    return _add_frame(backbone, changes) if body is None else _add_tokens(body, changes)


def _add_tokens(body: nn.Module, changes: Changes) -> Prompts:
    like = next(body.parameters())
    depth = len(body.blocks) if changes.deep_prompts else 1
    patch_values = math.prod(body.patch_embed.patch_size) * 3
    prompts = Prompts(depth, changes.n_prompts, body.embed_dim, patch_values).to(like)
    after = body.num_prefix_tokens
    for i, block in enumerate(body.blocks[:depth]):
        block.register_forward_pre_hook(lambda _block, inputs, i=i: (prompts.put(inputs[0], after, i), *inputs[1:]))
    body.blocks[-1].register_forward_hook(lambda _block, _inputs, output: prompts.take_out(output, after))
    return prompts


def _add_frame(backbone: nn.Module, changes: Changes) -> Frame:
    source = next((part for part in backbone.modules() if hasattr(part, "body")), None)
    if source is None:
        raise ConfigError(f"finetune: mode 'prompt' needs a backbone with a body, this is {type(backbone).__name__}")
    frame = Frame(source, changes.n_prompts).to(next(backbone.parameters(), torch.zeros(())))
    source.body.register_forward_pre_hook(lambda _body, inputs: (frame(inputs[0]), *inputs[1:]))
    blank = torch.zeros(1, source.in_channels, source.input_px, source.input_px, dtype=torch.uint8)
    try:
        with torch.no_grad():
            n_features = source(blank.to(frame.rows.device)).shape[1]
    except (RuntimeError, AssertionError) as error:  # for instance a body for one size only
        raise ConfigError(_explain_no_frame(changes.n_prompts, source.input_px, str(error))) from error
    if n_features != source.feature_dim:
        why = f"it gives {n_features} features of such images instead of {source.feature_dim}"
        raise ConfigError(_explain_no_frame(changes.n_prompts, source.input_px, why))
    return frame


def _explain_no_frame(width: int, side_px: int, why: str) -> str:
    return (
        f"finetune: mode 'prompt' puts a frame of n_prompts={width} pixels around images of {side_px}, which this "
        f"backbone cannot process: {why}. Use one that averages its maps, or one of timm's vision transformers"
    )
