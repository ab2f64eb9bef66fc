"""One function for each mode of `finetune`: it chooses the weights to adapt, and adds modules."""

from collections.abc import Callable

from torch import nn

from fewshot.errors import ConfigError
from fewshot.methods.finetune.adapters import add_adapters
from fewshot.methods.finetune.blocks import compute_depths, find_blocks
from fewshot.methods.finetune.lora import add_lora
from fewshot.methods.finetune.options import Changes
from fewshot.methods.finetune.prompts import add_prompts

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def thaw(backbone: nn.Module, changes: Changes) -> nn.Module | None:
    """Make the weights that `changes.mode` adapts in a frozen backbone require gradients.

    Returns the module that the mode adds, or None; its initial values come from the global generator. Raises
    `ConfigError` if the backbone has no such weights.
    """
    return _THAW[changes.mode](backbone, changes)


def _thaw_nothing(backbone: nn.Module, changes: Changes) -> None:
    """Modes linear and cosine adapt only the head."""


def _thaw_full(backbone: nn.Module, changes: Changes) -> None:
    backbone.requires_grad_(True)


def _thaw_partial(backbone: nn.Module, changes: Changes) -> None:
    """Adapt the last `n_blocks` blocks and the layers after them, such as a last convolution or normalisation."""
    blocks = find_blocks(backbone)
    if changes.n_blocks > len(blocks):
        raise ConfigError(f"finetune: n_blocks is {changes.n_blocks}, but this backbone has {len(blocks)} blocks")
    first = len(blocks) - changes.n_blocks + 1
    after = {name for name, depth in compute_depths(backbone, blocks).items() if depth >= first}
    _thaw_only(backbone, after, "partial", "weights")


def _thaw_batchnorm(backbone: nn.Module, changes: Changes) -> None:
    """Adapt scale and shift of every normalisation layer; running statistics do not change."""
    layers = [(name, part) for name, part in backbone.named_modules() if isinstance(part, NORMS)]
    affine = {f"{name}.{own}" for name, part in layers for own, _ in part.named_parameters(recurse=False)}
    _thaw_only(backbone, affine, "batchnorm", "normalisation with a scale")


def _thaw_bias(backbone: nn.Module, changes: Changes) -> None:
    """Adapt all biases: BitFit, Ben Zaken, Goldberg, Ravfogel 2022, https://arxiv.org/abs/2106.10199."""
    biases = {name for name, _ in backbone.named_parameters() if name.endswith("bias")}
    _thaw_only(backbone, biases, "bias", "bias")


def _thaw_only(backbone: nn.Module, names: set[str], mode: str, what: str) -> None:
    if not names:
        raise ConfigError(f"finetune: mode {mode!r} has nothing to adapt: this backbone has no {what}")
    for name, weight in backbone.named_parameters():
        weight.requires_grad_(name in names)


_THAW: dict[str, Callable[[nn.Module, Changes], nn.Module | None]] = {
    "linear": _thaw_nothing,
    "cosine": _thaw_nothing,
    "partial": _thaw_partial,
    "batchnorm": _thaw_batchnorm,
    "bias": _thaw_bias,
    "full": _thaw_full,
    "lora": add_lora,
    "adapter": add_adapters,
    "prompt": add_prompts,
}
