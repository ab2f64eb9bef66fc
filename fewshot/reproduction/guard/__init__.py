"""The regression guard: checks that every recipe, shortened to seconds of training, still reaches its lower bounds.

The bounds ("floors" in the file and the tables) come from several training seeds and from validation classes; test
classes are never used.
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
