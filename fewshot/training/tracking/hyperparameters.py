"""Writes the options of a run for TensorBoard's HParams tab."""

from pathlib import Path
from typing import Any

from fewshot.config import TrainingOptions, as_dict

NOT_SHOWN = {"run_dir", "resume"}  # they say where a run is stored and how it was started, not what it computes


def list_hyperparameters(config: TrainingOptions) -> dict[str, bool | int | float | str]:
    """List every option of a run by its name; those in a dictionary are called `method_options.inner_steps`.

    Lists become text, None becomes "none", and an empty dictionary has no entry.
    """
    found: dict[str, bool | int | float | str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{name}.{key}", item)
        elif isinstance(value, list):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = "none" if value is None else value

    for name, value in as_dict(config).items():
        if name not in NOT_SHOWN:
            add(name, value)
    return found


def write_start(writer: Any, config: TrainingOptions) -> None:
    """Tell the HParams tab that a run of `config` begins; `writer`: a `SummaryWriter`.

    No list of options or metrics is declared, so that TensorBoard itself finds the options that differ between runs
    and lists them first.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # slow to import

    run = Path(config.run_dir or "")
    trial_id = f"{run.name} ({run.parent})"  # the tab cuts off the end
    writer.file_writer.add_summary(hparams_pb(list_hyperparameters(config), trial_id=trial_id))


def write_end(writer: Any) -> None:
    """Tell the HParams tab that the run has ended successfully."""
    from torch.utils.tensorboard.summary import hparams

    _, _, end = hparams({}, {})
    writer.file_writer.add_summary(end)
