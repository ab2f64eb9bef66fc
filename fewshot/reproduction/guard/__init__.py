"""The regression guard: every recipe, cut short to seconds of training, still reaches what it always reached.

Floors are made of several training seeds, on validation classes; nothing here ever sees a test class.
"""

from fewshot.reproduction.guard.bounds import Floor, below, read_floors, write_floors
from fewshot.reproduction.guard.trials import GuardConfig, Trial, calibrate, compare, read_config, short_runs, tried

__all__ = [
    "Floor", "GuardConfig", "Trial", "below", "calibrate", "compare", "read_config", "read_floors", "short_runs",
    "tried", "write_floors",
]  # fmt: skip
