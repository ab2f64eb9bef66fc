"""Coins: euro coins by denomination (evaluation only) and the coins of 32 countries."""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fewshot.datasets.loading import DATASETS, SPLITS, check_split, need
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError
from fewshot.images.circle_crops import crop_circles
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import (
    ImageFile,
    classes_of,
    list_class_files,
    list_few,
    list_zip_files,
    make_image_set,
    make_natural_key,
)

DENOMINATIONS = ("1c", "2c", "5c", "10c", "20c", "50c", "1e", "2e")
EURO_NUMBERS = range(53, 61)  # Spain's euro coins among the 211 classes of world_coins
NAMES_FILE = "cat_to_name.json"
PUBLIC_PARTS = ("train", "val", "validation", "test")
logger = logging.getLogger(__name__)


@DATASETS.register("euro_coins")
def euro_coins(root: Path, split: str, size_px: int = 84, cut_circles: bool = False) -> ImageSet:
    """1,291 euro coins of 8 denominations, cut from 40 photographs; colour. Evaluation only.

    Args:
        root: the folder that holds `euro_coins/`.
        split: "test" or "all": both are the whole set.
        size_px: side of the square, on white, that images are fitted into.
        cut_circles: crop each image to the coin's circle (`fewshot.images.circles`).

    Joakim Beijar, 2018, https://github.com/kaa/coins-dataset (MIT), the part `classified/train`; from
    `root/euro_coins/`: `euro_coins.zip`, or that repository or its class folders. Groups are the photographs (the
    file name up to its last "_"): coins of one photograph share light, background and camera, so support and query
    should come from different ones.
    """
    check_split("euro_coins", split, (*SPLITS, "all"))
    if split in ("train", "val"):
        raise DataError(
            f"euro_coins has no {split!r} split: 8 denominations are too few to divide, so all of them are "
            "for evaluation (split 'test'); train on another set, such as world_coins"
        )
    place = root / "euro_coins"
    inside = [*place.glob("classified/train"), *place.glob("*/classified/train"), place]
    files = _find_zip_files(place / "euro_coins.zip", "euro_coins") or list_class_files(inside[0])
    _check_classes(place, classes_of(files), DENOMINATIONS)
    files = [file._replace(group=file.file_name.rpartition("_")[0]) for file in files]
    without = [file.file_name for file in files if not file.group]
    if without:
        raise DataError(f"{place}: no photograph (no '_') in the file names {list_few(without)}")
    files.sort(key=lambda file: DENOMINATIONS.index(file.class_name))
    everything = make_image_set("euro_coins", files, 3, size_px, "pad")
    everything = crop_circles(everything) if cut_circles else everything
    return everything.select(DENOMINATIONS, split)


@DATASETS.register("world_coins")
def world_coins(
    root: Path,
    split: str,
    size_px: int = 84,
    min_images: int = 0,
    without_euro: bool = False,
    cut_circles: bool = False,
) -> ImageSet:
    """Coins of 32 countries: 211 denominations, each a class with both sides and many years; colour.

    Args:
        root: the folder that holds `world_coins/`.
        split: "train", "val" or "test", disjoint by country (`class_lists/world_coins.json`), or "all".
        size_px: side of the square, on white, that images are fitted into.
        min_images: leave out classes with fewer.
        without_euro: leave out Spain's euro coins, so that a method trained on this set can be tested on `euro_coins`.
        cut_circles: crop each image to the coin's circle (`fewshot.images.circles`).

    https://www.kaggle.com/datasets/wanderdust/coin-images; from `root/world_coins/`: the cleaned
    `world_coins_211_84.zip` (4,620 images), or its class folders, or the public layout
    `coins/data/{train,validation,test}/<number>/` beside `cat_to_name.json`. The parts of the public layout are merged.
    Identical pictures are kept once, or dropped if they are in two classes, but near-duplicates stay, so accuracies
    differ from those on the cleaned set.
    """
    check_split("world_coins", split, (*SPLITS, "all"))
    splits = load_published_split("world_coins")
    classes = [class_name for names in splits.values() for class_name in names]
    place = root / "world_coins"
    archive = place / "world_coins_211_84.zip"
    files = _find_zip_files(archive, "world_coins") or _find_unpacked_files(place, place / archive.stem)
    _check_classes(place, classes_of(files), classes)
    rank = {class_name: number for number, class_name in enumerate(classes)}
    files.sort(key=lambda file: rank[file.class_name])
    everything = _drop_duplicates(make_image_set("world_coins", files, 3, size_px, "pad", origin=_name_origin))
    everything = crop_circles(everything) if cut_circles else everything
    chosen = classes if split == "all" else splits[split]
    if without_euro:
        chosen = [class_name for class_name in chosen if int(class_name[:3]) not in EURO_NUMBERS]
    subset = everything.select(chosen, split)
    return subset.with_min_images(min_images) if min_images else subset


def _name_origin(class_name: str) -> str:
    """Name the origin of a class: Spain's euro coins are also classes of `euro_coins`."""
    number = int(class_name[:3])
    denomination = DENOMINATIONS[EURO_NUMBERS.index(number)] if number in EURO_NUMBERS else None
    return f"euro_coins/{denomination}" if denomination else f"world_coins/{class_name}"


def _find_zip_files(archive: Path, name: str) -> list[ImageFile]:
    """List the images in the archive; none if there are folders instead; raises `DataError` if there is neither."""
    if any(path.is_dir() for path in archive.parent.glob("*")) and not archive.exists():
        return []
    return list_zip_files(need(archive, name, "the archive of images (or the folders as published)"))


def _find_unpacked_files(place: Path, unpacked: Path) -> list[ImageFile]:
    places = (place / "coins" / "data" / part for part in PUBLIC_PARTS)
    parts = [path for path in (*places, *(place / part for part in PUBLIC_PARTS)) if path.is_dir()]
    if not parts:
        return list_class_files(unpacked if unpacked.is_dir() else place)
    names_file = need(place / NAMES_FILE, "world_coins", "the list of class names")
    files = [file for part in parts for file in list_class_files(part)]
    name = _read_class_names(names_file, classes_of(files))
    return [file._replace(class_name=name[file.class_name]) for file in files]


def _read_class_names(names_file: Path, folders: list[str]) -> dict[str, str]:
    """Read the class name of each folder from `cat_to_name.json`; in one copy folders are numbered one lower than keys.

    The entry "181": "1 2 Franc,Swiss Franc,switzerland" becomes the class name 180_1_2_Franc_switzerland.
    """
    try:
        named = {}
        for key, text in json.loads(names_file.read_text(encoding="utf-8")).items():
            denomination, _, country = text.split(",")
            named[int(key)] = re.sub("[ /]", "_", f"{int(key) - 1:03d}_{denomination}_{country}")
        number = {folder: int(folder) for folder in folders}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{names_file}, or a folder beside it, is not as published ({error})") from error
    for shift in (0, 1):
        if {n + shift for n in number.values()} == set(named):
            return {folder: named[n + shift] for folder, n in number.items()}
    raise DataError(
        f"{names_file} is not the file of these images: it has {len(named)} numbers from {min(named)} to "
        f"{max(named)}, the folders are {len(number)} from {min(number.values())} to {max(number.values())}"
    )


def _check_classes(place: Path, found: list[str], expected: Iterable[str]) -> None:
    missing, unknown = set(expected).difference(found), set(found).difference(expected)
    for problem, names in (("lacks", missing), ("has unknown", unknown)):
        if names:
            raise DataError(
                f"{place} {problem} classes ({len(names)}): {list_few(sorted(names, key=make_natural_key))}"
            )


def _drop_duplicates(images: ImageSet) -> ImageSet:
    """Keep identical pictures of one class once, and drop those that are in two classes."""
    _, first, picture = np.unique(images.digests, axis=0, return_index=True, return_inverse=True)
    picture = picture.reshape(-1)  # (n_images,), which of the distinct pictures; first: its first row
    lowest, highest = np.full(len(first), images.n_classes), np.full(len(first), -1)
    np.minimum.at(lowest, picture, images.labels)
    np.maximum.at(highest, picture, images.labels)
    rows = np.sort(first[lowest == highest])
    if len(rows) == len(images):
        return images
    logger.info("%s: %d of %d are duplicates and left out", images, len(images) - len(rows), len(images))
    return ImageSet(
        images.images[rows],
        images.labels[rows],
        images.class_names,
        name=images.name,
        digests=images.digests[rows],
        origins=images.origins,
    )
