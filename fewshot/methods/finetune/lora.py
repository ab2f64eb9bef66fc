"""Low-rank changes of convolutions and linear layers, by the library `peft`."""

import warnings
from typing import Any

from torch import nn

from fewshot.errors import ConfigError
from fewshot.methods.finetune.options import Changes


def add_lora(backbone: nn.Module, changes: Changes) -> None:
    """Add to each convolution and linear layer of `backbone` a change of rank `lora_rank`, which is zero at the start.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, https://arxiv.org/abs/2106.09685;
    the change is lora_alpha / lora_rank · B A, with B = 0 at first. All such layers are changed, where the paper
    changes attention only. Grouped (depthwise) convolutions are not changed, since a change of rank 1 for each channel
    would be larger than the layer; nor is nn.MultiheadAttention, which uses weights without calling their layers.
    """
    names = find_lora_layers(backbone)
    if not names:
        raise ConfigError("finetune: mode 'lora' has nothing to adapt: no convolution or linear layer it can change")
    config, inject = _import_peft()
    inject(config(r=changes.lora_rank, lora_alpha=changes.lora_alpha, target_modules=names), backbone)


def find_lora_layers(backbone: nn.Module) -> list[str]:
    """List the names of the layers that LoRA changes."""
    attention = [f"{name}." for name, part in backbone.named_modules() if isinstance(part, nn.MultiheadAttention)]
    return [
        name
        for name, part in backbone.named_modules()
        if (isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.groups == 1))
        and not name.startswith(tuple(attention))
    ]


def _import_peft() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from the libraries that peft imports
            from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("finetune: mode 'lora' needs peft: pip install 'fewshot[finetune]'") from error
    return LoraConfig, inject_adapter_in_model
