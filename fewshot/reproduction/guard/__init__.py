"""The regression guard: every recipe, cut short to seconds of training, still reaches what it always reached.

Floors are made of several training seeds, on validation classes; nothing here ever sees a test class.
"""

from fewshot.reproduction.guard.bounds import Floor, find_below, read_floors, write_floors
from fewshot.reproduction.guard.trials import (
    GuardConfig,
    Trial,
    calibrate,
    compare,
    make_short_runs,
    read_config,
    try_run,
)

__all__ = [
    "Floor",
    "GuardConfig",
    "Trial",
    "calibrate",
    "compare",
    "find_below",
    "make_short_runs",
    "read_config",
    "read_floors",
    "try_run",
    "write_floors",
]  # fmt: skip
