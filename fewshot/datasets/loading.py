"""The registry of data sets, and `load_dataset`, which loads a split as an `ImageSet`."""

import os
from pathlib import Path
from typing import Any

from fewshot.errors import DataError
from fewshot.images.imageset import ImageSet
from fewshot.registry import Registry, unknown_name

DATASETS = Registry("data set", n_given=2)  # the folder of all data sets and the split
SPLITS = ("train", "val", "test")


def find_data_root(root: str | Path | None = None) -> Path:
    """Find the folder of all data sets: `root`, else the environment variable `FEWSHOT_DATA`, else `data/raw`."""
    return Path(root or os.environ.get("FEWSHOT_DATA") or "data/raw")


def load_dataset(name: str, split: str, root: str | Path | None = None, **options: Any) -> ImageSet:
    """Load a split of a registered data set.

    Args:
        name: see `list_datasets`.
        split: "train", "val" or "test".
        root: the folder that holds the data sets' folders (default: see `find_data_root`); for `folder`, the folder of
            classes itself.
        options: the data set's own, as its function documents them.

    Returns:
        The images with their labels.

    Raises:
        UnknownNameError: for an unknown name, split or option.
        ConfigError: for an option of the wrong type.
        DataError: for data that are missing or damaged, with the path and what to do.
    """
    return DATASETS.create(name, find_data_root(root), split, **options)


def list_datasets() -> list[str]:
    """List the names that `load_dataset` knows."""
    return DATASETS.names()


def check_split(name: str, split: str, known: tuple[str, ...] = SPLITS) -> None:
    """Raise `UnknownNameError` unless `split` is one of `known`."""
    if split not in known:
        raise unknown_name(f"split of {name}", split, known)


def need(path: Path, name: str, what: str) -> Path:
    """Return `path` if it exists; else raise `DataError` with what is missing, where it belongs and how to get it."""
    if not path.exists():
        raise DataError(
            f"{name}: {what} is missing: {path} does not exist. Put it there, set FEWSHOT_DATA to the "
            f"folder that holds {path.parent.name}/, or run: python scripts/get_data.py --dataset {name}"
        )
    return path
