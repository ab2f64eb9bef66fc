"""Checkpoints: one safetensors file with everything that a run needs to continue bit for bit.

Tensors are stored as such; the rest of the state (step, scores, optimizer settings, config) is JSON in the header of
the file. Nothing is pickled, so loading a file cannot run code. A file is written under a temporary name, flushed and
renamed, so the previous checkpoint exists until the new one is complete.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fewshot.errors import CheckpointError, FewShotError, OutputError
from fewshot.runtime.files import replacing

FORMAT = "fewshot-checkpoint-1"
TENSOR = "__tensor__"
PAIRS = "__pairs__"


def save_checkpoint(path: str | Path, state: dict[str, Any], file_format: str = FORMAT) -> None:
    """Write `state`: nested dicts and lists of tensors, numbers, strings and None."""
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    header = {"format": file_format, "state": json.dumps(_pack(state, "state", tensors))}
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(save(tensors, header))
            file.flush()
            os.fsync(file.fileno())
    except OutputError as error:
        raise CheckpointError(f"could not write the checkpoint: {error}") from error


def load_checkpoint(path: str | Path, file_format: str = FORMAT) -> dict[str, Any]:
    """Load the state that `save_checkpoint` wrote to `path`, onto the CPU."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}{': it is a folder' if path.is_dir() else ''}")
    try:
        path.open("rb").close()  # whose error says why, unlike that of `safe_open`
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if (found := header.get("format")) != file_format:
                raise CheckpointError(f"{path} is no {file_format}{_explain_format(found, file_format)}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint: it is truncated, or of another program ({_shorten(error)})"
        ) from error
    try:
        state = _unpack(json.loads(header["state"]), tensors)
        if not isinstance(state, dict):
            raise TypeError(f"a state is names with values, got {type(state).__name__}")
        return state
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:  # torch's and recursion's too
        message = f"{path} is marked as {file_format}, but its contents are not those of a checkpoint"
        raise CheckpointError(f"{message} ({type(error).__name__}: {_shorten(error)})") from error


@contextmanager
def refusing_foreign(path: str | Path, kind: str) -> Iterator[None]:
    """Raise `CheckpointError` where what a checkpoint holds is not that of its `kind`, "run" say."""
    try:
        yield
    except FewShotError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {_shorten(error)}"
        raise CheckpointError(f"{path} does not hold the state of a {kind} ({what})") from error


def _shorten(error: Exception) -> str:
    """An error of another library as part of a sentence."""
    return " ".join(str(error).split())[:300]


def _explain_format(found: str | None, expected: str) -> str:
    """Say in which format a file is instead of the expected one."""
    kind, _, number = (found or "").rpartition("-")
    if kind != expected.rpartition("-")[0]:
        return f", but {found}" if kind.startswith("fewshot-") else ""
    newer = number.isdecimal() and int(number) > int(expected.rpartition("-")[2])
    return f" but {found}, written by {'a newer version: upgrade fewshot' if newer else 'an older version'}"


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Replace each tensor in `value` by a reference, and put the tensors into `tensors`."""
    if isinstance(value, Tensor):
        channels_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {TENSOR: name, "channels_last": channels_last and not value.is_contiguous()}
    if isinstance(value, dict):
        pairs = [[key, _pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key in value) else {PAIRS: pairs}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(f"a checkpoint cannot hold {name}: {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:  # sums are rounded differently in another memory format: it is part of the state
        tensor = tensors[value[TENSOR]]
        return tensor.to(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if PAIRS in value:
        return {key: _unpack(item, tensors) for key, item in value[PAIRS]}
    return {key: _unpack(item, tensors) for key, item in value.items()}
