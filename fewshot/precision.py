"""Which arithmetic a device runs in: float32, or bfloat16 under autocast where its hardware has it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

from fewshot.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]


def resolve(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `auto` means on `device`: bfloat16 on GPUs that support it and on CPUs with AMX tiles.

    On a CPU without AMX bfloat16 was not measured, so `auto` is float32 there.
    """
    if precision != "auto":
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is auto, float32 or bfloat16, got {precision!r}")
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and _cpu_has_amx() else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which matrix products and convolutions on `device` run in `precision`."""
    enabled = resolve(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _cpu_has_amx() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text()
