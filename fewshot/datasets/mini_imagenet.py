"""miniImageNet: 100 ImageNet classes with 600 images each, 84 x 84.

Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, Matching networks for one shot learning,
NeurIPS 2016, https://arxiv.org/abs/1606.04080; the 64/16/20 classes that everyone uses since are of
Ravi, Larochelle, Optimization as a model for few-shot learning, ICLR 2017,
https://github.com/twitter-research/meta-learning-lstm.
"""

import csv
import logging
from collections.abc import Collection
from pathlib import Path

from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.datasets.splits import published_split
from fewshot.errors import DataError
from fewshot.images.decode import Resize
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import ImageFile, class_files, classes_of, few, image_set, natural

IMAGE_PX = 84
N_IMAGES = {"train": 38_400, "val": 9_600, "test": 12_000}  # 600 a class
HEADER = ["filename", "label"]
logger = logging.getLogger(__name__)


@DATASETS.register("mini_imagenet")
def mini_imagenet(
    root: Path,
    split: str,
    size_px: int = IMAGE_PX,
    resize: Resize = "stretch",
    skip_bad_images: bool = False,
) -> ImageSet:
    """Train/val/test of 64/16/20 classes, 3 x `size_px` x `size_px`.

    Reads `<root>/mini_imagenet/{train,val,test}.csv` (header `filename,label`) with the files in
    `<root>/mini_imagenet/images/`, as Ravi and Larochelle publish it; without the table of that
    split, the folders `<root>/mini_imagenet/<split>/<wnid>/`. Only the files of the split asked for
    need to be there. Either way the classes must be the published ones.
    `resize`: `stretch` makes any image square as the papers' preparation did; images that are
    84 x 84 already stay as they are. Order: classes as published, files in natural order.
    `skip_bad_images`: list unreadable images and go on without them.
    """
    check_split("mini_imagenet", split)
    folder = need(root / "mini_imagenet", "mini_imagenet", "the folder of images")
    table = folder / f"{split}.csv"
    wnids = published_split("mini_imagenet")[split]
    if table.exists():
        files = _listed_files(table, folder / "images", wnids)
    else:
        files = class_folder_files("mini_imagenet", folder / split, wnids)
    warn_of_other_count("mini_imagenet", split, len(files), N_IMAGES)
    images = image_set("mini_imagenet", files, 3, size_px, resize, skip_bad_images=skip_bad_images)
    return images.select(wnids, split)


def class_folder_files(name: str, folder: Path, classes: list[str]) -> list[ImageFile]:
    """The images of `<folder>/<class>/`, classes in the order given, files in natural order.

    Raises `DataError` unless the folders are exactly `classes` and none is empty.
    """
    files = class_files(need(folder, name, "the folder of this split"))
    check_classes(str(folder), classes_of(files), classes)
    rank = {class_name: number for number, class_name in enumerate(classes)}
    return sorted(files, key=lambda file: rank[file.class_name])


def check_classes(where: str, found: Collection[str], published: Collection[str]) -> None:
    """Raise, with counts and names, unless the classes found are exactly the published ones."""
    missing, foreign = sorted(set(published) - set(found)), sorted(set(found) - set(published))
    if missing or foreign:
        n_there = len(published) - len(missing)
        message = f"{where}: {n_there} of the {len(published)} published classes are there"
        if missing:
            message += f"; {len(missing)} missing: {few(missing)}"
        if foreign:
            message += f"; {len(foreign)} not of this split: {few(foreign)}"
        raise DataError(message)


def warn_of_other_count(name: str, split: str, n_images: int, published: dict[str, int]) -> None:
    """Log a warning where the number of images is not the published one."""
    if n_images != published[split]:
        logger.warning(
            "%s/%s has %d images where %d are published: accuracies cannot be compared with papers",
            name, split, n_images, published[split],
        )  # fmt: skip


def _listed_files(table: Path, folder: Path, wnids: list[str]) -> list[ImageFile]:
    """The images that a table of `filename,label` names, classes in the order of `wnids`."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file))
    if lines[:1] != [HEADER]:
        found = ",".join(lines[0]) if lines else "an empty file"
        raise DataError(f"{table}: line 1 must be {','.join(HEADER)!r}, found {found!r}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(HEADER) or Path(line[0]).name != line[0]:
            raise DataError(f"{table}: line {number} must be a file name and a label, got {','.join(line)!r}")
    names = [line[0] for line in lines[1:]]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{table}: {len(twice)} files are named twice: {few(twice)}")
    check_classes(str(table), {line[1] for line in lines[1:]}, wnids)
    present = {f.name for f in need(folder, "mini_imagenet", "the folder of images").iterdir()}
    absent = sorted(set(names) - present)
    if absent:
        raise DataError(f"{folder}: {len(absent)} of the {len(names)} files of {table.name} are missing: {few(absent)}")
    rank = {wnid: number for number, wnid in enumerate(wnids)}
    ordered = sorted(lines[1:], key=lambda line: (rank[line[1]], natural(line[0])))
    return [ImageFile(wnid, folder / name) for name, wnid in ordered]
