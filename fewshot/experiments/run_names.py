"""What the folder of a run is called where nobody names it."""

import re
from datetime import UTC, datetime

from fewshot.config import AnyConfig
from fewshot.experiments.build import choose_device
from fewshot.runtime import processes
from fewshot.training.tracking.hyperparameters import list_hyperparameters

NAMED = {"dataset", "method", "classifier", "backbone", "seed", "data_root"}  # in a run's name already, or no matter
MEASURING = ("val_", "test_", "log_", "checkpoint_", "profile_")
LONGEST_DIFFERENCES = 120  # characters of a run's name


def name_run_dir(config: AnyConfig) -> str:
    """A fresh folder name in runs/: data set, method or classifier, backbone, what is no default, seed and time."""
    choose_device()  # joins the other processes, so that all take the first one's name
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    backbone = config.backbone.replace("/", "-")
    what = [config.dataset, config.trained_name, backbone, *name_differences(config)]
    return processes.broadcast_first(f"runs/{'-'.join(what)}-seed{config.seed}-{now}")


def name_differences(config: AnyConfig) -> list[str]:
    """Options that differ from their defaults, as parts of a folder's name: `lr=0.0003`, `inner_steps=5`.

    How it is trained comes before how that is measured; where all would be too long, the last ones are counted instead.
    """
    usual = list_hyperparameters(type(config)())
    parts = [
        f"{name.rpartition('.')[2]}={re.sub(r'[^A-Za-z0-9.+_]+', '_', str(value))}"
        for name, value in sorted(list_hyperparameters(config).items(), key=lambda item: item[0].startswith(MEASURING))
        if value != usual.get(name) and name not in NAMED
    ]
    kept = [part for n, part in enumerate(parts, start=1) if len("-".join(parts[:n])) <= LONGEST_DIFFERENCES]
    return [*kept, f"and_{len(parts) - len(kept)}_more"] if len(kept) < len(parts) else kept
