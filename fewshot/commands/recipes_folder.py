"""Where the recipes lie."""

import os
from pathlib import Path

import fewshot
from fewshot.errors import ConfigError


def scripts_folder(recipes: str | None = None) -> Path:
    """The folder that holds recipes/, published/ and the guard's bounds, relative to the current one.

    Args:
        recipes: the folder of recipes in it (default: that of the repository which this package is used from).

    Raises:
        ConfigError: where the package was installed without its repository, and no folder is named.
    """
    folder = Path(recipes) if recipes else Path(fewshot.__file__).parents[1] / "scripts" / "recipes"
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder of recipes {folder}"
            + ("" if recipes else ": they lie in the repository (scripts/recipes), not in the installed package")
        )
    return Path(os.path.relpath(folder)).parent
