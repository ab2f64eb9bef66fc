"""Finds the folder of recipes."""

import os
from pathlib import Path

import fewshot
from fewshot.errors import ConfigError


def find_recipes(folder: str | None = None) -> Path:
    """The folder that holds a folder of recipes for each data set, relative to the current one.

    Args:
        folder: where it is (default: scripts/recipes of the repository that this package is used from).

    Raises:
        ConfigError: where there is none, for instance since the package was installed without its repository.
    """
    found = Path(folder) if folder else Path(fewshot.__file__).parents[1] / "scripts" / "recipes"
    if not found.is_dir():
        raise ConfigError(
            f"there is no folder of recipes {found}"
            + ("" if folder else ": they lie in the repository (scripts/recipes), not in the installed package")
        )
    return Path(os.path.relpath(found))


def find_scripts() -> Path:
    """Where the scripts lie that recipes name; no folder where the package was installed without its repository."""
    return Path(fewshot.__file__).parents[1] / "scripts"
