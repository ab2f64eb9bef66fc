"""The registry of data sets, and `load_dataset`, which loads a split as an `ImageSet`."""

import os
from pathlib import Path
from typing import Any

import fewshot
from fewshot.errors import DataError
from fewshot.images.imageset import ImageSet
from fewshot.registry import Registry, unknown_name

DATASETS = Registry("data set", n_given=2)  # the folder of all data sets and the split
SPLITS = ("train", "val", "test")
_ANONYMOUS = (
    "is a copy that other codes read; it does not say which class is which, so that the split cannot be checked: take "
    "the original"
)
OTHER_COPIES = {  # what lies where people have copies in other layouts, and what to do about them
    "cifar-100-python.tar.gz": "has to be unpacked here: tar -xzf cifar-100-python.tar.gz",
    "CIFAR_FS_*.pickle": _ANONYMOUS,
    "FC100_*.pickle": _ANONYMOUS,
    "splits/bertinetto": "belongs to a copy as single pictures, which does not say which are of CIFAR-100's training "
    "part: take the original",
    "*_images_png.pkl": _ANONYMOUS + ", or unpack it into train/, val/, test/ with a folder for each WordNet number",
    "*_images.npz": _ANONYMOUS + ", or unpack it into train/, val/, test/ with a folder for each WordNet number",
    "CUB_200_2011.tgz": "has to be unpacked here: tar -xzf CUB_200_2011.tgz",
    "GTSRB_Final_Training_Images.zip": "has to be unpacked here: unzip GTSRB_Final_Training_Images.zip",
}


def find_data_root(root: str | Path | None = None) -> Path:
    """Find the folder of all data sets: `root`, else the environment variable `FEWSHOT_DATA`, else `data/raw`.

    `data/raw` is looked for in the current folder, in the folders above it, and in the repository that this package is
    used from; if there is none, that of the current folder is returned.
    """
    given = str(root or os.environ.get("FEWSHOT_DATA") or "")
    if "\0" in given:
        raise DataError(f"{given!r} is no folder: its name has a zero byte")
    if given:
        return Path(given)
    here = Path("data/raw")
    others = [folder / here for folder in (*Path.cwd().parents, Path(fewshot.__file__).parents[1])]
    return next((place for place in (here, *others) if place.is_dir()), here)


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
    if path.exists():
        return path
    folder = next((place for place in (path, *path.parents) if place.name in DATASETS), path)
    there = sorted(entry.name for entry in folder.iterdir())[:10] if folder.is_dir() else []
    found = f" (in {folder} there are: {', '.join(there)})" if there else ""
    raise DataError(
        f"{name}: {what} is missing: {path} does not exist{found}. {_find_advice(folder)}Put it there, set "
        f"FEWSHOT_DATA to the folder that holds {folder.name}/, or run: python scripts/get_data.py --dataset {name}"
    )


def _find_advice(folder: Path) -> str:
    """What to do with copies that other codes read, where one lies in the folder of a data set or beside it."""
    places = (folder, *(place for place in folder.parent.glob("*") if place.is_dir()))
    for pattern, advice in OTHER_COPIES.items():
        found = next((path for place in places for path in place.glob(pattern)), None)
        if found:
            return f"{found} {advice}. "
    return ""
