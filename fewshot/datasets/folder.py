"""Your own images: one folder per class."""

import csv
import json
import logging
import re
from itertools import chain
from pathlib import Path

from fewshot.datasets.loading import DATASETS, SPLITS, check_split
from fewshot.errors import DataError
from fewshot.images.decode import Resize
from fewshot.images.imageset import ImageSet, check_disjoint
from fewshot.images.joining import pair_equal
from fewshot.images.listing import (
    ImageFile,
    check_distinct,
    classes_of,
    list_class_files,
    list_few,
    list_visible,
    make_image_set,
    normalise_text,
)
from fewshot.registry import unknown_name
from fewshot.runtime.files import follow_links

logger = logging.getLogger(__name__)


@DATASETS.register("folder")
def folder(
    root: Path,
    split: str,
    size_px: int = 84,
    channels: int = 3,
    resize: Resize = "crop",
    groups: str | None = None,
    split_file: str | None = None,
    skip_bad_images: bool = False,
) -> ImageSet:
    """Images in `root/class/` or `root/{train,val,test}/class/`, at `size_px` x `size_px`.

    Args:
        root: the folder of classes itself.
        split: "all" takes every class; "train", "val" and "test" come from the sub-folders of those names or from
            `split_file`.
        size_px: side of the images, in pixels.
        channels: 1 (grey) or 3 (colour); see `decode_image`.
        resize: the largest centred square, the whole picture on white, or without its aspect ratio; see `decode_image`.
        groups: a regular expression that is searched in the name of each file and whose group 1 (else the whole match)
            is the group of the image; or a csv file with the header `file,group` and files relative to `root`, such as
            `cat/001.jpg`.
        split_file: JSON as {"train": [class names], …}, alone or under the key "splits".
        skip_bad_images: list unreadable images and go on without them.

    The files `groups` and `split_file` are looked for in the current folder, then in `root`. Classes and files are in
    natural order (2 before 10), names in Unicode form NFC; hidden files and files that are no images are ignored.
    """
    root = Path(root)
    name = normalise_text(follow_links(root).name)
    check_split(f"folder {name!r}", split, (*SPLITS, "all"))
    places = _split_folders(root) or {"": root}
    found = {place: list_class_files(path) for place, path in places.items()}
    files = [file for place in found.values() for file in place]
    check_distinct(root, {file.class_name for file in files})
    splits = {place: classes_of(found[place]) for place in found if place}
    if split_file is not None:
        splits = _read_splits(_find(root, split_file, "split_file"), classes_of(files))
    chosen = _choose_classes(root, split, splits, classes_of(files))
    order = dict.fromkeys(chain(*splits.values(), classes_of(files)))  # split after split, so that a split is one slice
    rank = {class_name: number for number, class_name in enumerate(order)}
    files = sorted(assign_groups(root, files, groups), key=lambda file: rank[file.class_name])
    everything = make_image_set(name, files, channels, size_px, resize, skip_bad_images)
    _warn_of_twins(root, everything, files)
    return everything.select(everything.class_names if split == "all" else chosen, split)


def _warn_of_twins(root: Path, images: ImageSet, files: list[ImageFile]) -> None:
    """Warn of one picture in two classes, which a classifier of photographs refuses to be fitted to."""
    if len(files) == len(images.labels):
        names = [str(file.path.relative_to(root)) for file in files]
    else:  # unreadable images were left out: which row is which file is not known here
        names = [f"a picture of {images.class_names[label]}" for label in images.labels]
    pairs = pair_equal(map(bytes, images.digests))
    twins = [f"{names[i]} and {names[j]}" for i, j in pairs if images.labels[i] != images.labels[j]]
    if twins:
        logger.warning("%s: the same picture in two classes: %s; remove the wrong one", root, list_few(twins))


def _split_folders(root: Path) -> dict[str, Path]:
    """Find the folders train, val and test of `root`, if it has no other folders and they contain folders."""
    folders = {path.name: path for path in (list_visible(root) if root.is_dir() else []) if path.is_dir()}
    holds_folders = any(path.is_dir() for folder in folders.values() for path in list_visible(folder))
    if not folders.keys() <= set(SPLITS) or not holds_folders:
        return {}
    return {split: folders[split] for split in SPLITS if split in folders}


def _choose_classes(root: Path, split: str, splits: dict[str, list[str]], classes: list[str]) -> list[str]:
    if split == "all":
        chosen = classes
    elif split in splits:
        check_disjoint(**splits)
        chosen = splits[split]
    elif splits:
        raise DataError(f"{root}: there is no split {split!r}, only {', '.join(splits)}")
    else:
        raise DataError(
            f"{root}: nothing says which classes are {split!r}: put them into the folders train, "
            "val and test, name a split_file, or ask for the split 'all'"
        )
    if len(chosen) < 2:
        raise DataError(f"{root}: split {split!r} has only the class {list_few(chosen)}; episodes need two or more")
    return chosen


def _read_splits(path: Path, classes: list[str]) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"split_file {path} is no readable JSON ({error})") from error
    splits = content.get("splits", content) if isinstance(content, dict) else None
    lists = isinstance(splits, dict) and all(isinstance(names, list) for names in splits.values())
    if not lists or not all(isinstance(name, str) for names in splits.values() for name in names):
        raise DataError(f'split_file {path} must hold {{"train": [class names], "val": […], "test": […]}}')
    for split, names in splits.items():
        if split not in SPLITS:
            raise unknown_name(f"split in {path}:", split, SPLITS)
        for name in names:
            if normalise_text(name) not in classes:
                raise unknown_name(f"class in split {split!r} of {path}:", name, classes)
    return {split: list(dict.fromkeys(map(normalise_text, names))) for split, names in splits.items()}


def assign_groups(root: Path, files: list[ImageFile], groups: str | None) -> list[ImageFile]:
    """Set the group of each file as the option `groups` of `folder` says; None leaves the files unchanged."""
    if groups is None:
        return files
    if groups.lower().endswith(".csv"):
        table = _read_groups(_find(root, groups, "groups"))
        found = [table.get(normalise_text(file.path.relative_to(root).as_posix()), "") for file in files]
        without = f"has no row, or no group, in {groups}"
    else:
        try:
            matches = [re.search(groups, file.file_name) for file in files]
        except re.error as error:
            raise DataError(f"groups {groups!r} is no regular expression ({error}) and no csv") from error
        found = [match[min(1, len(match.groups()))] or "" if match else "" for match in matches]
        without = f"does not match the groups expression {groups!r}"
    bad = [str(file.path.relative_to(root)) for file, group in zip(files, found, strict=True) if not group]
    if bad:
        raise DataError(f"{root}: {len(bad)} of {len(files)} image files: {list_few(bad)}: each {without}")
    return [file._replace(group=group) for file, group in zip(files, found, strict=True)]


def _read_groups(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no readable csv file in UTF-8 ({error})") from error
    if not rows or rows[0] != ["file", "group"]:
        first = ",".join(rows[0]) if rows else ""
        raise DataError(f"{path}: the first line must be 'file,group', not {first!r}")
    table: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) != 2:
            raise DataError(f"{path}: a row needs two cells, file and group: {','.join(row)!r}")
        if table.setdefault(normalise_text(row[0].replace("\\", "/")), row[1]) != row[1]:
            raise DataError(f"{path}: {row[0]} is given two groups")
    return table


def _find(root: Path, given: str, option: str) -> Path:
    for path in (Path(given), root / given):
        if path.is_file():
            return path
    raise DataError(f"{option}: there is neither a file {given} nor {root / given}")
