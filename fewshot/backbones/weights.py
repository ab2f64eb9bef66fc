"""Load weights from local files: without running code, with any prefix of names, and strictly."""

import pickle
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fewshot.errors import CheckpointError

NESTS = ("state_dict", "model", "params")  # keys under which training scripts store the weights
SHOWN = 4


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a .safetensors, .pth or .pt file, on the CPU.

    A pickle is read with `weights_only=True`, so it cannot run code. Raises `CheckpointError` if the file is missing,
    damaged, or contains no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise CheckpointError(f"weights are read from .safetensors, .pth or .pt files, not from {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path} holds no readable weights, or more than weights: {first_line}") from error
    for nest in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors, but {type(content).__name__}")
    return tensors


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str, ignore: Iterable[str] = ()) -> None:
    """Load `tensors` into `module`; nothing may be missing or left over.

    The names in the file may have a prefix (`body.`, `module.`, `backbone.body.` …); tensors without it are ignored.
    `ignore`: names of submodules in the file that `module` lacks on purpose, such as a classifier. Raises
    `CheckpointError`, which names some of the keys or shapes that do not match.
    """
    wanted = module.state_dict().keys()
    found = strip_prefix(tensors, wanted, source)
    found = {key: tensor for key, tensor in found.items() if not key.startswith(tuple(f"{i}." for i in ignore))}
    try:
        missing, unexpected = module.load_state_dict(found, strict=False)
    except RuntimeError as error:  # shapes
        raise CheckpointError(f"the weights in {source} do not fit: {error}") from error
    if missing or unexpected:
        raise CheckpointError(
            f"the weights in {source} do not fit: "
            f"{_list_some('missing', missing)}, {_list_some('unexpected', unexpected)}"
        )


def strip_prefix(tensors: Mapping[str, Tensor], wanted: Iterable[str], source: str) -> dict[str, Tensor]:
    """Find the prefix with which most `wanted` names occur; return its tensors without it (all if there is none)."""
    wanted = set(wanted)
    prefixes: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                prefixes["".join(f"{part}." for part in parts[:start])] += 1
    best = prefixes.most_common(2)
    if len(best) == 2 and best[0][1] == best[1][1]:
        raise CheckpointError(
            f"{source} holds matching weights with more than one prefix: {best[0][0]!r} and {best[1][0]!r}"
        )
    prefix = best[0][0] if best else ""
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _list_some(what: str, keys: list[str]) -> str:
    dots = ", …" if len(keys) > SHOWN else ""
    listed = f" ({', '.join(keys[:SHOWN])}{dots})" if keys else ""
    return f"{len(keys)} {what}{listed}"
