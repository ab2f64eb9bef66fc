"""Visual prompt tuning: tokens that are learnt beside an image's own."""

import math

import torch
from torch import Tensor, nn

from fewshot.errors import ConfigError
from fewshot.methods.finetune.options import Changes


class Prompts(nn.Module):
    """Tokens (depth, n_prompts, c): those of the first block, or with a depth of more of each block."""

    def __init__(self, depth: int, n_prompts: int, channels: int, patch_values: int) -> None:
        super().__init__()
        bound = math.sqrt(6 / (patch_values + channels))  # Xavier for a patch's values, as in the authors' code
        self.tokens = nn.Parameter(torch.empty(depth, n_prompts, channels).uniform_(-bound, bound))

    def put(self, tokens: Tensor, after: int, i: int) -> Tensor:
        """`tokens` (n, t, c) with the prompts of block i after the first `after`; from block 1 on in the old's place"""
        n_prompts = self.tokens.shape[1]
        rest = after if i == 0 else after + n_prompts
        prompts = self.tokens[i].to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :after], prompts, tokens[:, rest:]], 1)

    def taken_out(self, tokens: Tensor, after: int) -> Tensor:
        """`tokens` (n, t + n_prompts, c) without the prompts."""
        return torch.cat([tokens[:, :after], tokens[:, after + self.tokens.shape[1] :]], 1)


def add_prompts(backbone: nn.Module, changes: Changes) -> nn.Module:
    """Give each image `n_prompts` tokens more, in the first block or (`deep_prompts`) new ones in each.

    Jia et al., Visual Prompt Tuning, ECCV 2022, https://arxiv.org/abs/2203.12119, section 3.2: VPT-Deep and
    VPT-Shallow. For timm's VisionTransformer only. The prompts stand behind the class token and are taken out
    before the last normalisation, so that they are never pooled. Differs from the paper: no dropout on them.
    """
    from timm.models.vision_transformer import VisionTransformer

    body = next((part for part in backbone.modules() if isinstance(part, VisionTransformer)), None)
    if body is None:
        kinds = " > ".join(dict.fromkeys(type(part).__name__ for part in _outer(backbone)))
        raise ConfigError(
            f"finetune: mode 'prompt' is for timm's vision transformers (such as timm/vit_small_patch16_224), "
            f"this backbone is {kinds}"
        )
    like = next(body.parameters())
    depth = len(body.blocks) if changes.deep_prompts else 1
    patch_values = math.prod(body.patch_embed.patch_size) * 3
    prompts = Prompts(depth, changes.n_prompts, body.embed_dim, patch_values).to(like)
    after = body.num_prefix_tokens
    for i, block in enumerate(body.blocks[:depth]):
        block.register_forward_pre_hook(lambda _block, inputs, i=i: (prompts.put(inputs[0], after, i), *inputs[1:]))
    body.blocks[-1].register_forward_hook(lambda _block, _inputs, output: prompts.taken_out(output, after))
    return prompts


def _outer(backbone: nn.Module) -> list[nn.Module]:
    """The backbone and what it wraps, as long as that is one module."""
    found = [backbone]
    while len(children := list(found[-1].children())) == 1:
        found.append(children[0])
    return found
