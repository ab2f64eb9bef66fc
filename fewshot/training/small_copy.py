"""`copy_small`: the folder of a run for a slow way home: weights of two bytes, and no state of the optimizer."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot.errors import ConfigError
from fewshot.runtime.checkpoint import load_checkpoint, refusing_foreign, save_checkpoint
from fewshot.training.run_folder import RunFolder

WEIGHTS = ("method", "training")  # the parts of a checkpoint that hold weights
LARGEST = torch.finfo(torch.float16).max


def copy_small(run: str | Path, target: str | Path) -> None:
    """Copy the folder of a run, finished or not, to `target`: a sixth of its bytes with Adam, a quarter with SGD.

    Weights become float16; those of batch normalisation and biases, and tensors that float16 cannot hold, stay as they
    are. The optimizer's state stays behind: where training goes on from the copy, it begins anew, with a learning rate
    that grows over `WARMUP_STEPS` steps (see `fewshot.training.optimization`), and the result of the run says at which
    step. TensorBoard's events and measured records stay behind too.

    Args:
        run: folder of the run.
        target: folder to write; files of an earlier copy are replaced.

    Raises:
        ConfigError: for a folder without a run, and for one copied onto itself.
        CheckpointError: for a checkpoint that cannot be read or written.
    """
    source, copy = RunFolder(run), RunFolder(target)
    source.read_config()
    if source.path.resolve() == copy.path.resolve():
        raise ConfigError(f"{source.path} cannot be copied onto itself: name another folder")
    copy.path.mkdir(parents=True, exist_ok=True)
    for file in (source.config, source.plugins, source.training_sets):
        if file.exists():
            shutil.copyfile(file, copy.path / file.name)
    for file in (source.best, source.last):
        if file.exists():
            state = load_checkpoint(file)
            with refusing_foreign(file, "run"):
                small = _make_small(state)
            save_checkpoint(copy.path / file.name, small)


def _make_small(state: dict[str, Any]) -> dict[str, Any]:
    """Round the weights of a checkpoint's state, and leave out the optimizer's."""
    small = dict(state)
    for part in WEIGHTS:
        if state[part] is not None:
            small[part] = {name: _round(value) for name, value in state[part].items()}
    if state["optimizer"] is not None:
        small["optimizer"] = None
        small["restarts"] = [*state.get("restarts", []), state["progress"][0]]
    return small


def _round(weights: Tensor) -> Tensor:
    fits = weights.dtype == torch.float32 and weights.dim() > 1 and bool((weights.abs() <= LARGEST).all())
    return weights.half() if fits else weights
