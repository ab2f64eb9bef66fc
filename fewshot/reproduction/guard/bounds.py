"""The lower bounds that each recipe must reach in each cell, and the file that stores them with their origin."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from fewshot.errors import ConfigError, DataError
from fewshot.runtime.files import read_json, write_whole

N_DEVIATIONS = 4
STEPS_OF_ONE = 1000  # bounds are rounded down to a tenth of a percentage point


@dataclass(frozen=True)
class Floor:
    """The lower bound of a cell's mean accuracy.

    `mean`, `sd`: over the mean accuracies of several training seeds. `episode_error`: the standard error of one such
    accuracy, due to its number of episodes.
    """

    floor: float
    mean: float
    sd: float
    episode_error: float

    @classmethod
    def of(cls, accuracies: Sequence[float], episode_error: float) -> Self:
        """Compute the bound from the accuracies of at least two training seeds: mean minus four standard deviations.

        A few seeds can lie close together by chance, so four episode errors are subtracted if these are larger.
        """
        if len(accuracies) < 2:
            raise ConfigError(f"a floor needs the spread of at least two training seeds, got {len(accuracies)}")
        mean, sd = float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))
        lowest = mean - N_DEVIATIONS * max(sd, episode_error)
        floor = math.floor(lowest * STEPS_OF_ONE + 1e-6) / STEPS_OF_ONE  # 0.7 is 699.9999… thousandths
        return cls(max(floor, 0.0), round(mean, 5), round(sd, 5), round(episode_error, 5))

    def margin(self, accuracy: float) -> float:
        """How far `accuracy` lies above the bound, in the deviations of which four separate bound and mean."""
        return (accuracy - self.floor) / max(self.sd, self.episode_error)


@dataclass(frozen=True)
class Floors:
    """The bounds of a recipe, by cell. `options`: how it was shortened; `about`: seeds, commit and the like."""

    cells: dict[str, Floor]
    options: dict[str, Any]
    n_episodes: int
    about: dict[str, Any] = field(default_factory=dict)


def find_below(means: Mapping[str, float], floors: Mapping[str, Floor]) -> list[str]:
    """Find the cells whose mean accuracy is below its bound; raises `DataError` if the bounds are of other cells."""
    if means.keys() != floors.keys():
        raise DataError(f"measured in {sorted(means)}, but the floors are for {sorted(floors)}")
    return [cell for cell, mean in means.items() if not mean >= floors[cell].floor]


def read_floors(path: Path) -> dict[str, Floors]:
    """Read the bounds in the file, by recipe; none without the file. Raises `DataError` for another kind of file."""
    names = [part.name for part in fields(Floor)]
    try:
        held = read_json(path, "file of floors") if path.exists() else {}
        floors = {}
        for recipe, entry in held.items():
            cells = {cell: Floor(**{name: v[name] for name in names}) for cell, v in entry["cells"].items()}
            floors[recipe] = Floors(cells, entry["options"], entry["n_episodes"], entry["about"])
        return floors
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not hold floors ({error!r}); restore it, or make it anew") from error


def write_floors(path: Path, floors: Mapping[str, Floors]) -> None:
    """Add or replace the bounds of some recipes in the file, keeping the others."""
    entries = {}
    for recipe, own in sorted({**read_floors(path), **floors}.items()):
        entries[recipe] = vars(own) | {"cells": {cell: vars(floor) for cell, floor in own.cells.items()}}
    write_whole(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
