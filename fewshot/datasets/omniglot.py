"""Omniglot: 1,623 hand-written characters of 50 alphabets, each drawn once by 20 people.

Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program
induction, Science 2015, https://github.com/brendenlake/omniglot. Groups are the 20 drawers.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fewshot.datasets.download import fetch
from fewshot.datasets.loading import DATASETS, SPLITS, check_split
from fewshot.datasets.sources import NEEDS
from fewshot.errors import DataError
from fewshot.images.decode import open_zip, read_member
from fewshot.images.formats import open_image
from fewshot.images.imageset import ImageSet
from fewshot.images.store import open_store, stamp_file

IMAGE_PX = 28
LARGEST_PX = 1024  # of a drawing's side
DRAWING = re.compile(r"([^/]+)/(character\d\d)/\d{4}_(\d\d)\.png")  # 0462_07.png is by drawer 7
N_CHARACTERS = {"background": 964, "evaluation": 659}
N_DRAWERS = 20
logger = logging.getLogger(__name__)

# The split of Vinyals et al. 2016 written as a rule, checked against the 1,623 names in
# https://github.com/jakesnell/prototypical-networks (data/omniglot/splits/vinyals): 1028/172/423.
VAL_ALPHABETS = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
TEST_ALPHABETS = {
    "Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)",
    "Oriya", "Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
}  # fmt: skip
TEST_CHARACTERS = {f"Gurmukhi/character{number}" for number in range(42, 46)}


@DATASETS.register("omniglot")
def omniglot(
    root: Path,
    split: str,
    protocol: Literal["vinyals", "lake"] = "vinyals",
    resize: Literal["nearest", "antialiased"] = "nearest",
    inverted: bool = True,
    rotations: bool = True,
) -> ImageSet:
    """Omniglot at 28 x 28, one channel.

    Args:
        root: the folder that holds `omniglot/`.
        split: "train", "val", "test" or "all"; with vinyals also "trainval", the 1,200 characters on which the papers
            train their final models.
        protocol: `vinyals` (train/val/test of 1028/172/423 characters) or `lake` (train = background 964, test =
            evaluation 659, no val).
        resize: `nearest` keeps the drawings binary, as in the papers (Pillow uses it for binary images, whatever filter
            is requested); `antialiased` averages.
        inverted: ink is 255 on 0, as in ProtoNet and MAML; otherwise 0 on 255.
        rotations: each character rotated by 0, 90, 180 and 270 degrees counts as four classes.
    """
    if protocol not in ("vinyals", "lake"):
        raise DataError(f"omniglot: protocol is 'vinyals' or 'lake', got {protocol!r}")
    if resize not in ("nearest", "antialiased"):
        raise DataError(f"omniglot: resize is 'nearest' or 'antialiased', got {resize!r}")
    known = ("train", "val", "trainval", "test", "all") if protocol == "vinyals" else ("train", "test", "all")
    check_split(f"omniglot ({protocol})", split, known)
    archives = _find_archives(root)
    store = open_store(
        "omniglot",
        {"sources": [stamp_file(path) for path in archives], "resize": resize, "inverted": inverted},
        lambda: _list_members(archives),
        lambda member: _decode(archives[member[0] == "evaluation"], member[2], resize, inverted),
        (1, IMAGE_PX, IMAGE_PX),
        describe=_list_characters,
    )
    parts, characters, drawers = zip(*store.about, strict=True)
    everything = ImageSet(
        store.images,
        np.repeat(np.arange(len(characters)), [len(d) for d in drawers]),
        characters,
        groups=np.concatenate(drawers),
        name="omniglot" if protocol == "vinyals" else "omniglot-lake",
        digests=store.digests,
        origins=[f"omniglot/{character}" for character in characters],
    )
    chosen = [
        c for c, part in zip(characters, parts, strict=True) if split == "all" or _belongs(c, part, split, protocol)
    ]
    subset = everything.select(chosen, split)
    return subset.rotations_as_classes() if rotations else subset


def _list_characters(members: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, list[int]]]:
    """List (part, character, the drawer of each image) for each character, in the order of the rows."""
    drawers: dict[tuple[str, str], list[int]] = {}
    for part, character, file in members:  # 0462_07.png is by drawer 7
        drawers.setdefault((part, character), []).append(int(Path(file).stem.split("_")[1]))
    return [(part, character, numbers) for (part, character), numbers in drawers.items()]


def _belongs(character: str, part: str, split: str, protocol: str) -> bool:
    if protocol == "lake":
        return part == {"train": "background", "test": "evaluation"}[split]
    alphabet = character.split("/")[0]
    if alphabet in TEST_ALPHABETS or character in TEST_CHARACTERS:
        return split == "test"
    return split in ("val", "trainval") if alphabet in VAL_ALPHABETS else split in ("train", "trainval")


def _find_archives(root: Path) -> list[Path]:
    """Find the two archives below `root`; missing ones are fetched from the public source."""
    items = [alternatives[0] for alternatives in NEEDS["omniglot"]]
    for item in items:
        if not (root / item.path).exists():
            _refuse_folders(root, Path(item.path).stem)
            logger.warning("omniglot: %s is missing; fetching %s", root / item.path, item.url)
            fetch(root, item)
    return [root / item.path for item in items]


def _refuse_folders(root: Path, name: str) -> None:
    """Raise `DataError` if a missing archive has been unpacked: its images would be fetched a second time."""
    for depth in ("", "*/", "*/*/"):
        for unpacked in filter(Path.is_dir, root.glob(f"{depth}{name}")):
            archive = root / "omniglot" / f"{name}.zip"
            raise DataError(
                f"omniglot: the archive {archive} is missing, and its folder {unpacked} is there: pack it, with "
                f"python -m zipfile -c {archive} {unpacked}/, or move the folder away to have the archive fetched"
            )


def _list_members(archives: list[Path]) -> list[tuple[str, str, str]]:
    """List (background or evaluation, Alphabet/character, file in the archive) in a fixed order.

    The classes of each Vinyals split are neighbours, so that the pixels of a split are one slice.
    """
    files: dict[tuple[str, str], list[str]] = {}
    for part, archive in zip(("background", "evaluation"), archives, strict=True):
        for file in open_zip(archive).namelist():
            if DRAWING.fullmatch("/".join(file.split("/")[-3:])):
                files.setdefault((part, "/".join(file.split("/")[-3:-1])), []).append(file)
        _check_count(archive, part, files)

    def rank(part_and_character: tuple[str, str]) -> tuple[int, str]:
        part, character = part_and_character
        return [_belongs(character, part, split, "vinyals") for split in SPLITS].index(True), character

    return [(part, c, file) for part, c in sorted(files, key=rank) for file in sorted(files[part, c])]


def _check_count(archive: Path, part: str, files: dict[tuple[str, str], list[str]]) -> None:
    """Raise unless an archive holds as many characters and drawings as are published."""
    counts = [len(drawings) for (of, _), drawings in files.items() if of == part]
    n_characters = N_CHARACTERS[part]
    if len(counts) != n_characters or sum(counts) != n_characters * N_DRAWERS:
        raise DataError(
            f"{archive}: {len(counts):,} characters with {sum(counts):,} drawings (Alphabet/character01/0001_01.png) "
            f"are in it, published are {n_characters:,} with {n_characters * N_DRAWERS:,}; delete it and fetch it again"
        )


def _decode(archive: Path, file: str, resize: str, inverted: bool) -> np.ndarray:
    image = open_image(read_member(archive, file), f"{archive}: {file}")
    if max(image.size) > LARGEST_PX:
        raise DataError(f"{archive}: {file}: the image has {image.width} x {image.height} px, drawings have 105 x 105")
    try:
        if resize == "nearest":
            pixels = np.asarray(image.convert("1").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.NEAREST))
            pixels = pixels.astype(np.uint8) * 255
        else:
            pixels = np.asarray(image.convert("L").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.LANCZOS))
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        raise DataError(f"{archive}: {file}: the image is damaged or cut short ({error})") from error
    return (255 - pixels if inverted else pixels)[None]
