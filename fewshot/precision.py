"""Which arithmetic a device runs in: float32, or bfloat16 under autocast where its hardware has it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

from fewshot.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]
BFLOAT16_UNITS = frozenset({"amx_bf16", "avx512_bf16"})  # as /proc/cpuinfo calls them


def resolve(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` means on `device`: bfloat16 where the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32.
    """
    if precision != "auto":
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is auto, float32 or bfloat16, got {precision!r}")
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which matrix products and convolutions on `device` run in `precision`."""
    enabled = resolve(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _cpu_multiplies_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not BFLOAT16_UNITS.isdisjoint(cpuinfo.read_text().split())
