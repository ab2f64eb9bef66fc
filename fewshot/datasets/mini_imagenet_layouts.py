"""Layouts of miniImageNet on disk: find the images of a split in any of them."""

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fewshot.datasets.loading import need
from fewshot.datasets.pickles import read_pickle
from fewshot.datasets.splits import load_published_split
from fewshot.errors import DataError
from fewshot.images.decode import Resize, check_pixel_options, make_square, open_zip
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import (
    WORDNET,
    ImageFile,
    classes_of,
    is_image,
    is_junk,
    list_class_files,
    list_few,
    list_visible,
    list_zip_files,
    make_image_set,
    make_natural_key,
)
from fewshot.images.store import open_store, stamp_file
from fewshot.runtime.files import follow_links

NAME = "mini_imagenet"
HEADER = ["filename", "label"]
CACHES = ("mini-imagenet-cache-{split}.pkl", "mini_imagenet_cache_{split}.pkl", "{split}.pkl")
EXPECTED = (
    "expected below it is one of: train.csv, val.csv, test.csv (header filename,label) with images/ or images.zip; "
    "train/, val/, test/ with one folder a class; one folder a class, in whatever folders; "
    "mini-imagenet-cache-train.pkl, …-val.pkl, …-test.pkl; a zip archive of any of the folders"
)


class Layout(NamedTuple):
    """One split on disk: a description of its layout, its number of images, and a function that reads them.

    `read(size_px, resize, skip_bad_images)` returns the images with the published classes.
    """

    title: str
    n_images: int
    read: Callable[[int, Resize, bool], ImageSet]


def find_layout(folder: Path, split: str) -> Layout:
    """Find the images of a split below `folder`.

    Args:
        folder: the folder of the data set.
        split: train, val or test.

    Raises:
        DataError: no known layout is there (the message lists them), or the classes are not the published ones.
    """
    splits = load_published_split(NAME)
    wnids, published = splits[split], set(itertools.chain(*splits.values()))
    table = folder / f"{split}.csv"
    if table.exists():
        return _make_file_layout("tables of files", _read_listed_files(table, folder, wnids))
    for pattern in CACHES:
        cache = folder / pattern.format(split=split)
        if cache.exists():
            return _make_cache_layout(cache, wnids)
    own = folder / split
    inside = {path.name for path in list_visible(own)} if own.is_dir() else set()
    if inside == set(wnids):
        return _make_file_layout("a folder for each split", find_class_files(NAME, own, wnids))
    files = _find_class_folders(folder)
    found = set(classes_of(files))
    if set(wnids) <= found:
        check_classes(str(folder), found | published, published)
        return _make_file_layout("class folders at any place", _select_classes(files, wnids))
    for archive in sorted(folder.glob("*.zip")):
        members = list_zip_files(archive)
        if set(wnids) <= set(classes_of(members)):
            return _make_file_layout(f"class folders in {archive.name}", _select_classes(members, wnids))
    if inside:
        check_classes(str(own), inside, wnids)
    if found:
        check_classes(str(folder), found & set(wnids), wnids)
    raise DataError(f"{NAME}: no images of the split {split!r} are found in {folder}; {EXPECTED}")


def find_class_files(name: str, folder: Path, classes: list[str]) -> list[ImageFile]:
    """List the images in `<folder>/<class>/`, classes in the order given, files in natural order.

    Raises `DataError` unless the folders are exactly `classes` and none is empty.
    """
    files = list_class_files(need(folder, name, "the folder of this split"))
    check_classes(str(folder), classes_of(files), classes)
    return _select_classes(files, classes)


def check_classes(where: str, found: Iterable[str], published: Iterable[str]) -> None:
    """Raise `DataError` with counts and names unless the classes found are exactly the published ones."""
    published, found = set(published), set(found)
    missing, foreign = sorted(published - found), sorted(found - published)
    if missing or foreign:
        message = f"{where}: {len(published) - len(missing)} of the {len(published)} published classes are there"
        if missing:
            message += f"; {len(missing)} missing: {list_few(missing)}"
        if foreign:
            message += f"; {len(foreign)} not of this split: {list_few(foreign)}"
        raise DataError(message)


def _make_file_layout(title: str, files: list[ImageFile]) -> Layout:
    def read(size_px: int, resize: Resize, skip_bad_images: bool) -> ImageSet:
        return make_image_set(NAME, files, 3, size_px, resize, skip_bad_images=skip_bad_images)

    return Layout(title, len(files), read)


def _select_classes(files: list[ImageFile], classes: list[str]) -> list[ImageFile]:
    """Select the files of `classes`, in that order, files in natural order; raises `DataError` for duplicate files."""
    rank = {name: number for number, name in enumerate(classes)}
    chosen = [file for file in files if file.class_name in rank]
    twice = [name for name, n in Counter((file.class_name, file.file_name) for file in chosen).items() if n > 1]
    if twice:
        names = [f"{class_name}/{file_name}" for class_name, file_name in twice]
        raise DataError(f"{NAME}: {len(twice)} images lie in two folders: {list_few(names)}; remove one of each")
    return sorted(chosen, key=lambda file: (rank[file.class_name], make_natural_key(file.file_name)))


def _find_class_folders(folder: Path) -> list[ImageFile]:
    """List the images of all folders with a WordNet name, in `folder` or one level below."""
    places = [path for path in list_visible(folder) if path.is_dir()]
    places += [path for place in places if not WORDNET.fullmatch(place.name) for path in list_visible(place)]
    return [
        ImageFile(place.name, path)
        for place in places
        if WORDNET.fullmatch(place.name) and place.is_dir()
        for path in list_visible(place)
        if is_image(path.name)
    ]


def _read_listed_files(table: Path, folder: Path, wnids: list[str]) -> list[ImageFile]:
    """List the images of a table of `filename,label`, classes in the order of `wnids`."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} is no readable csv file in UTF-8 ({error})") from error
    if lines[:1] != [HEADER]:
        found = ",".join(lines[0]) if lines else "an empty file"
        raise DataError(f"{table}: line 1 must be {','.join(HEADER)!r}, found {found!r}")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(HEADER) or Path(line[0]).name != line[0]:
            raise DataError(f"{table}: line {number} must be a file name and a label, got {','.join(line)!r}")
    names = [line[0] for line in lines[1:]]
    if len(set(names)) != len(names):
        twice = sorted(name for name, n in Counter(names).items() if n > 1)
        raise DataError(f"{table}: {len(twice)} files are named twice: {list_few(twice)}")
    check_classes(str(table), {line[1] for line in lines[1:]}, wnids)
    place, images = _find_images_beside(folder)
    absent = sorted(set(names) - set(images))
    if absent:
        raise DataError(
            f"{place}: {len(absent)} of the {len(names)} files of {table.name} are missing: {list_few(absent)}"
        )
    rank = {wnid: number for number, wnid in enumerate(wnids)}
    ordered = sorted(lines[1:], key=lambda line: (rank[line[1]], make_natural_key(line[0])))
    return [images[name]._replace(class_name=wnid) for name, wnid in ordered]


def _find_images_beside(folder: Path) -> tuple[Path, dict[str, ImageFile]]:
    """Find the images of the tables, by file name: in the folder images/, else in images.zip."""
    archive = folder / "images.zip"
    if not archive.exists() or (folder / "images").exists():
        place = need(folder / "images", NAME, "the folder of images")
        return place, {path.name: ImageFile("", path) for path in place.iterdir()}
    members = [member for member in open_zip(archive).namelist() if is_image(member)]
    members = [member for member in members if not any(map(is_junk, member.split("/")))]
    return archive, {member.rsplit("/", 1)[-1]: ImageFile("", archive, member) for member in members}


def _make_cache_layout(cache: Path, wnids: list[str]) -> Layout:
    """Read a pickle as many few-shot codebases use: `image_data` (n, h, w, 3) uint8, `class_dict` {class: rows}."""
    content = read_pickle(cache)
    images, rows = content.get("image_data"), content.get("class_dict")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise DataError(f"{cache}: 'image_data' must be an array of uint8 (n, h, w, 3)")
    if not isinstance(rows, dict) or not all(isinstance(of, list | tuple | np.ndarray) for of in rows.values()):
        raise DataError(f"{cache}: 'class_dict' must be a dictionary of each class's rows")
    check_classes(str(cache), rows, wnids)
    counts = [len(rows[wnid]) for wnid in wnids]
    order = list(itertools.chain(*(rows[wnid] for wnid in wnids)))
    if sorted(order) != list(range(len(images))):
        raise DataError(f"{cache}: 'class_dict' must name each of the {len(images):,} rows once")

    def read(size_px: int, resize: Resize, _skip_bad_images: bool) -> ImageSet:
        check_pixel_options(3, size_px, resize)
        store = open_store(
            NAME,
            [str(follow_links(cache)), stamp_file(cache), wnids, resize],
            order,
            lambda row: make_square(Image.fromarray(images[row]), f"{cache}, row {row}", 3, size_px, resize),
            (3, size_px, size_px),
        )
        labels = np.repeat(np.arange(len(wnids)), counts)
        origins = [f"imagenet/{wnid}" for wnid in wnids]
        return ImageSet(store.images, labels, wnids, name=NAME, digests=store.digests, origins=origins)

    return Layout(f"the pickle {cache.name}", len(order), read)
