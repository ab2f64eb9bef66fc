"""The options of a run as TensorBoard's HParams tab takes them."""

from typing import Any

from fewshot.config import TrainingOptions, as_dict

NOT_SHOWN = {"run_dir", "resume"}  # they tell where the run lies and how it was started, not what it is


def list_hyperparameters(config: TrainingOptions) -> dict[str, bool | int | float | str]:
    """Every option of a run by its name, `method_options.inner_steps` within a dictionary.

    Lists become text, None becomes "none", and a dictionary that is empty has no entry.
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

    No list of options or metrics is declared: TensorBoard then finds by itself which options differ between the runs it
    is shown, and offers these first.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # slow to import

    writer.file_writer.add_summary(hparams_pb(list_hyperparameters(config), trial_id=str(config.run_dir)))


def write_end(writer: Any) -> None:
    """Tell the HParams tab that the run has ended well."""
    from torch.utils.tensorboard.summary import hparams

    _, _, end = hparams({}, {})
    writer.file_writer.add_summary(end)
