"""The arithmetic that a network runs in: float32, TF32, or bfloat16 or float16 under autocast."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision

Resolved = Literal["float32", "tf32", "bfloat16", "float16"]
HALF: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})  # flags in /proc/cpuinfo of CPUs that multiply bfloat16
TF32_CAPABILITY = (8, 0)  # Ampere, the first Nvidia GPUs with TF32
FLOAT16_CAPABILITY = (7, 0)  # Volta, the first whose tensor cores multiply float16


def resolve(precision: Precision, device: torch.device) -> Resolved:
    """Choose the arithmetic for `precision` on `device`.

    Args:
        precision: "auto" chooses bfloat16 if the hardware multiplies it (GPUs from Ampere on; CPUs with AMX or
            AVX512-BF16), float16 on older GPUs that multiply it (Volta, Turing), else float32. Other values are
            returned unchanged.
        device: the device on which the network runs.

    Returns:
        "float32", "tf32", "bfloat16" or "float16", as it is written into records.

    Raises:
        ConfigError: for an unknown value, and for "tf32" on a device without TF32.
    """
    if precision not in get_args(Precision):
        *others, last = get_args(Precision)
        raise ConfigError(f"precision is {', '.join(others)} or {last}, got {precision!r}")
    if precision == "auto":
        if _multiplies_bfloat16(device):
            return "bfloat16"
        return "float16" if _multiplies_float16(device) else "float32"
    if precision == "tf32" and not _multiplies_tf32(device):
        raise ConfigError(
            f"precision=tf32 needs an Nvidia GPU from Ampere on, and this runs on {_describe(device)}: "
            "use auto, float32, bfloat16 or float16"
        )
    return precision


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within the block matrix products and convolutions on `device` use `precision`."""
    dtype = HALF.get(resolve(precision, device))
    with switch_tf32(precision, device), torch.autocast(device.type, dtype, enabled=dtype is not None):
        yield


@contextmanager
def switch_tf32(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within the block a GPU multiplies float32 tensors in TF32 if and only if `precision` is "tf32".

    By default torch uses TF32 for convolutions but not for matrix products. Run backward passes within this block too
    (unlike within `autocast`). The previous settings are restored afterwards; on other devices nothing is changed.
    """
    resolved = resolve(precision, device)
    if device.type != "cuda":
        yield
        return
    settings = _list_tf32_settings()
    before = [getattr(owner, name) for owner, name, _, _ in settings]
    for owner, name, on, off in settings:
        setattr(owner, name, on if resolved == "tf32" else off)
    try:
        yield
    finally:
        for (owner, name, _, _), value in zip(settings, before, strict=True):
            setattr(owner, name, value)


def _list_tf32_settings() -> list[tuple[Any, str, Any, Any]]:
    """List torch's settings of TF32 as (owner, name, value with TF32, value without)."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # torch >= 2.9, where the older names may warn
        return [(owner, "fp32_precision", "tf32", "ieee") for owner in (matmul, cudnn.conv, cudnn.rnn)]
    return [(owner, "allow_tf32", True, False) for owner in (matmul, cudnn)]


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return device.type == "cpu" and cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def _multiplies_float16(device: torch.device) -> bool:
    nvidia = device.type == "cuda" and torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(device) >= FLOAT16_CAPABILITY


def _multiplies_tf32(device: torch.device) -> bool:
    nvidia = device.type == "cuda" and torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(device) >= TF32_CAPABILITY


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"the device {device}"
