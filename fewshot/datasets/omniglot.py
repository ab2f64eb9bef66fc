"""Omniglot: 1,623 hand-written characters of 50 alphabets, each drawn once by 20 people.

Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program
induction, Science 2015, https://github.com/brendenlake/omniglot. Groups are the 20 drawers.
"""

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from fewshot.datasets.imageset import ImageSet
from fewshot.datasets.loading import DATASETS, check_split, need
from fewshot.datasets.store import file_stamp, packed
from fewshot.errors import DataError

ARCHIVES = ("images_background.zip", "images_evaluation.zip")
IMAGE_PX = 28

# The split of Vinyals et al. 2016 as a rule, checked against the 1,623 names of
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

    `protocol`: `vinyals` (train/val/test of 1028/172/423 characters) or `lake` (train = background
    964, test = evaluation 659, no val). `resize`: `nearest` keeps the drawings binary, as in the
    papers (Pillow resizes mode "1" so whatever the filter asked for); `antialiased` averages.
    `inverted`: ink is 255 on 0, as in ProtoNet and MAML; otherwise ink is 0 on 255.
    `rotations`: each character turned by 0, 90, 180 and 270 degrees counts as four classes.
    `split` may also be `trainval` (the 1,200 characters of the papers' final training; vinyals) or `all`.
    """
    if protocol not in ("vinyals", "lake"):
        raise DataError(f"omniglot: protocol is 'vinyals' or 'lake', got {protocol!r}")
    if resize not in ("nearest", "antialiased"):
        raise DataError(f"omniglot: resize is 'nearest' or 'antialiased', got {resize!r}")
    known = ("train", "val", "trainval", "test", "all") if protocol == "vinyals" else ("train", "test", "all")
    check_split(f"omniglot ({protocol})", split, known)
    archives = [need(root / "omniglot" / name, "omniglot", "an archive of drawings") for name in ARCHIVES]
    members = _members(archives)
    characters = list(dict.fromkeys(character for _, character, _ in members))
    store = packed(
        "omniglot",
        {"sources": [file_stamp(path) for path in archives], "resize": resize, "inverted": inverted},
        [(archives[background == "evaluation"], file) for background, _, file in members],
        lambda member: _decode(*member, resize, inverted),
        (1, IMAGE_PX, IMAGE_PX),
    )
    label = {character: number for number, character in enumerate(characters)}
    everything = ImageSet(
        store.images,
        [label[character] for _, character, _ in members],
        characters,
        groups=[int(Path(file).stem.split("_")[1]) for _, _, file in members],  # 0462_07.png: drawer 7
        name="omniglot" if protocol == "vinyals" else "omniglot-lake",
        digests=store.digests,
    )
    part = {character: part for part, character, _ in members}
    chosen = [c for c in characters if split == "all" or _belongs(c, part[c], split, protocol)]
    subset = everything.select(chosen, split)
    return subset.rotations_as_classes() if rotations else subset


def _belongs(character: str, part: str, split: str, protocol: str) -> bool:
    if protocol == "lake":
        return part == {"train": "background", "test": "evaluation"}[split]
    alphabet = character.split("/")[0]
    if alphabet in TEST_ALPHABETS or character in TEST_CHARACTERS:
        return split == "test"
    return split in ("val", "trainval") if alphabet in VAL_ALPHABETS else split in ("train", "trainval")


def _members(archives: list[Path]) -> list[tuple[str, str, str]]:
    """(background or evaluation, Alphabet/character, file in the archive), in a fixed order.

    The order puts the classes of each Vinyals split next to each other: their pixels are one slice.
    """
    members = []
    for part, archive in zip(("background", "evaluation"), archives, strict=True):
        for file in _open_zip(archive).namelist():
            if file.endswith(".png"):
                alphabet, character = file.split("/")[-3:-1]
                members.append((part, f"{alphabet}/{character}", file))
    order = {"train": 0, "val": 1, "test": 2}

    def rank(member: tuple[str, str, str]) -> tuple[int, str, str]:
        split = next(s for s in order if _belongs(member[1], member[0], s, "vinyals"))
        return order[split], member[1], member[2]

    return sorted(members, key=rank)


@cache
def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no readable zip archive ({error}); delete it and fetch it again") from error


def _decode(archive: Path, file: str, resize: str, inverted: bool) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(_open_zip(archive).read(file)))
        if resize == "nearest":
            pixels = np.asarray(image.convert("1").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.NEAREST))
            pixels = pixels.astype(np.uint8) * 255
        else:
            pixels = np.asarray(image.convert("L").resize((IMAGE_PX, IMAGE_PX), Image.Resampling.LANCZOS))
    except (OSError, UnidentifiedImageError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: {file}: {error}") from error
    return (255 - pixels if inverted else pixels)[None]
