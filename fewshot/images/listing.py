"""List image files in folders or archives, and make an `ImageSet` of them."""

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewshot.errors import DataError
from fewshot.images.decode import DECODER_VERSION, Resize, check_pixel_options, decode_image, open_zip, read_member
from fewshot.images.formats import count_unread, find_unread_kind, is_image
from fewshot.images.imageset import ImageSet
from fewshot.images.store import open_store, stamp_file
from fewshot.runtime.files import follow_links

# Folders that archivers and file servers create beside the images; names that begin with "." are ignored too.
JUNK = {"__macosx", "@eadir"}
SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
logger = logging.getLogger(__name__)
WORDNET = re.compile(r"n\d{8}")  # as ImageNet names its classes


class ImageFile(NamedTuple):
    """One image of a data set: its class, its file (or zip archive and member), its group."""

    class_name: str
    path: Path
    member: str | None = None
    group: str | None = None

    @property
    def file_name(self) -> str:
        return (self.member or self.path.name).rsplit("/", 1)[-1]


def make_image_set(
    name: str,
    files: Sequence[ImageFile],
    channels: int,
    size_px: int,
    resize: Resize,
    skip_bad_images: bool = False,
    origin: Callable[[str], str] | None = None,
) -> ImageSet:
    """Make an image set of `files`, in their order; classes are numbered in order of first appearance.

    The decoded images are kept in a packed store, which is rebuilt if the path, size or time of any file changes. One
    `DataError` names all bad images; with `skip_bad_images` they are left out with a warning, unless a class loses all
    its images. `origin` maps the name of a class to its origin (default: that of ImageNet for WordNet names, as in
    mini-, tiered and Tiny-ImageNet, else the names of set and class).
    """
    check_pixel_options(channels, size_px, resize)
    folder, stamp = cache(follow_links), cache(_stamp_file)  # a folder has one name, whatever links lead to it
    stamps = [[*stamp(folder(file.path.parent) / file.path.name), file.member] for file in files]
    store = open_store(
        re.sub(r"\W+", "_", name)[:40] or "images", [DECODER_VERSION, resize, stamps], files,
        lambda file: _decode_file(file, channels, size_px, resize),
        (channels, size_px, size_px),
        skip_bad_images=skip_bad_images,
    )  # fmt: skip
    kept = [files[row] for row in store.rows]
    classes = classes_of(files)
    lost = sorted(set(classes).difference(classes_of(kept)))
    if lost:
        raise DataError(f"{name}: no image of {list_few(lost)} can be read; repair or remove the class")
    label = {class_name: number for number, class_name in enumerate(classes)}
    return ImageSet(
        store.images,
        [label[file.class_name] for file in kept],
        classes,
        groups=None if kept[0].group is None else [file.group for file in kept],
        name=name,
        digests=store.digests,
        origins=[(origin or _make_origin(name))(class_name) for class_name in classes],
    )


def _make_origin(name: str) -> Callable[[str], str]:
    return lambda class_name: f"imagenet/{class_name}" if WORDNET.fullmatch(class_name) else f"{name}/{class_name}"


def list_class_files(place: Path) -> list[ImageFile]:
    """List the images in `place/<class>/`, classes and files in natural order.

    Raises `DataError` for a class that is empty, contains folders or has two folders, and for images outside a class.
    """
    images = list_class_folders(place)
    empty = [_explain_empty(folder, list_visible(folder)) for folder in images if not images[folder]]
    if empty:
        raise DataError(f"{place}: no image in {list_few(empty)}; fill or remove the folder")
    return [ImageFile(normalise_text(folder.name), path) for folder in images for path in images[folder]]


def list_class_folders(place: Path) -> dict[Path, list[Path]]:
    """The folders of `place` and the images of each, none where a folder is empty; both in natural order.

    Raises `DataError` as `list_class_files` does, but for empty folders.
    """
    if not place.is_dir():
        raise DataError(f"the folder {place} " + ("is a file" if place.exists() else "does not exist"))
    entries = list_visible(place)
    loose = [entry.name for entry in entries if not entry.is_dir() and is_image(entry.name)]
    if loose:
        raise DataError(f"{place}: {len(loose)} images lie in no class folder: {list_few(loose)}; move them into one")
    if lost := [entry.name for entry in entries if _is_lost(entry)]:
        raise DataError(f"{place}: links that lead nowhere: {list_few(lost)}; mend or remove them")
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DataError(f"{place}: it contains no class folder; expected is one folder of images per class")
    check_distinct(place, [folder.name for folder in folders])
    content = {folder: list_visible(folder) for folder in folders}
    nested = [f"{folder.name}/{entry.name}" for folder in folders for entry in content[folder] if entry.is_dir()]
    if nested:
        raise DataError(f"{place}: folders inside class folders: {list_few(nested)}; {_explain_nested(place, folders)}")
    if unread := count_unread(path.name for paths in content.values() for path in paths):
        logger.warning("%s: left out: %s", place, unread)
    return {folder: drop_links(path for path in content[folder] if is_image(path.name)) for folder in folders}


def list_zip_files(archive: Path) -> list[ImageFile]:
    """List the images in `…/<class>/` of a zip archive, classes and files in natural order."""
    members = [member for member in open_zip(archive).namelist() if is_image(member) and member.count("/")]
    members = [member for member in members if not any(map(is_junk, member.split("/")))]
    if not members:
        raise DataError(f"{archive}: it contains no image in a class folder")
    files = [ImageFile(normalise_text(member.split("/")[-2]), archive, member) for member in members]
    return sorted(files, key=lambda file: (make_natural_key(file.class_name), make_natural_key(str(file.member))))


def make_natural_key(name: str) -> tuple[list[int | str], str]:
    """Make a sort key that puts "coin 2" before "coin 10"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or was created by an archiver or file server."""
    return name.startswith(".") or name.casefold() in JUNK


def list_image_files(place: Path) -> tuple[list[Path], list[Path]]:
    """List the images in a folder and its subfolders, in natural order, and the photographs in unreadable formats.

    A file or folder that links reach several times is listed once.
    """
    found: list[Path] = []
    waiting, entered = [place], set()
    while waiting:
        folder = waiting.pop(0)
        if follow_links(folder) in entered:  # a link to a folder that was listed already
            continue
        entered.add(follow_links(folder))
        for entry in list_visible(folder):
            (waiting if entry.is_dir() else found).append(entry)
            if _is_lost(entry):
                logger.warning("left out: %s is a link that leads nowhere", entry)
    found = sorted(found, key=lambda path: make_natural_key(str(path)))
    return drop_links(path for path in found if is_image(path.name)), [p for p in found if find_unread_kind(p.name)]


def _is_lost(path: Path) -> bool:  # a link, not named like an image, of which reading would tell
    return path.is_symlink() and not path.exists() and not is_image(path.name)


def drop_links(paths: Iterable[Path]) -> list[Path]:
    """Remove links to other files in `paths`, and all but the first link to one file."""
    paths = list(paths)
    links = [path for path in paths if path.is_symlink()]
    if not links:
        return paths
    files = {follow_links(path) for path in paths if not path.is_symlink()}
    first = {follow_links(link): link for link in reversed(links)}
    kept = {link for place, link in first.items() if place not in files}
    return [path for path in paths if not path.is_symlink() or path in kept]


def list_visible(place: Path) -> list[Path]:
    """List the entries of a folder in natural order, without those that `is_junk`."""
    try:
        entries = [path for path in place.iterdir() if not is_junk(path.name)]
    except OSError as error:
        raise DataError(f"the folder {place} cannot be listed ({error.strerror})") from error
    if entries and not os.access(place, os.X_OK):
        raise DataError(f"the folder {place} cannot be entered (Permission denied)")
    return sorted(entries, key=lambda path: make_natural_key(path.name))


def check_distinct(place: Path, names: Iterable[str]) -> None:
    """Raise if the names of two class folders differ only in case or Unicode form, or if a name is not UTF-8."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{place}: the class folder {os.fsencode(name)!r} has no UTF-8 name; rename it") from error
        twin = seen.setdefault(normalise_text(name).casefold(), name)
        if twin != name:
            message = f"{twin!r} and {name!r} differ only in case or in how accents are stored"
            raise DataError(f"{place}: class folders {message}; merge or rename them")


def classes_of(files: Iterable[ImageFile]) -> list[str]:
    """List the names of the classes in order of first appearance."""
    return list(dict.fromkeys(file.class_name for file in files))


def normalise_text(text: str) -> str:
    """Normalise `text` to Unicode form NFC, so that the same letters are the same characters on every system."""
    return unicodedata.normalize("NFC", text)


def list_few(names: Sequence[object], n: int = 10, between: str = ", ") -> str:
    """Format the first `n` of `names`, and say how many more there are."""
    return between.join(map(str, names[:n])) + (f" and {len(names) - n} more" if len(names) > n else "")


def _explain_empty(folder: Path, content: list[Path]) -> str:
    others = sorted({path.suffix or "no suffix" for path in content})
    unread = count_unread(path.name for path in content)
    why = f"only files of other kinds: {', '.join(others)}" + (f"; {unread}" if unread else "")
    return folder.name + (f" ({why})" if others else "")


def _explain_nested(place: Path, folders: list[Path]) -> str:
    """Give advice on folders inside the class folders of `place`."""
    splits = [folder for folder in folders if normalise_text(folder.name).casefold() in SPLIT_WORDS]
    if not splits:
        return "move the images up, so that each folder holds the images of one class"
    if {folder.name for folder in folders} <= {"train", "val", "test"}:
        return f"these are splits, each with folders of classes: name one of them, such as {splits[0]}"
    return f"{list_few([folder.name for folder in splits])} look like splits: name one of them, such as {splits[0]}"


def _stamp_file(path: Path) -> list[Any]:
    with suppress(OSError):  # for instance a broken link; decoding reports it
        return [str(path), *stamp_file(path)]
    return [str(path)]


def _decode_file(file: ImageFile, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    if file.member is None:
        return decode_image(file.path, str(file.path), channels, size_px, resize)
    data = read_member(file.path, file.member)
    return decode_image(data, f"{file.path}: {file.member}", channels, size_px, resize)
