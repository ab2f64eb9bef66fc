"""Reads the photographs that a fitted classifier is asked about, and encodes them."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from fewshot.errors import DataError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.images.formats import count_unread
from fewshot.images.listing import list_image_files

BATCH_SIZE = 64
logger = logging.getLogger(__name__)


class EncodedPhotographs(NamedTuple):
    """The photographs of `place` that could be read, what the classifier makes of each, and how many could not."""

    place: Path
    paths: list[Path]
    content: Tensor
    n_bad: int

    def name(self, path: Path) -> str:
        """Name a photograph by its path relative to the folder, with slashes."""
        return path.relative_to(self.place).as_posix() if self.place.is_dir() else path.name


def encode_photographs(classifier: FewShotClassifier, place: Path) -> EncodedPhotographs:
    """Encode a photograph or all of a folder, with a progress bar; unreadable ones are logged and left out.

    Raises `DataError` where none can be read.
    """
    paths, unread = list_photographs(place)
    kept: list[Path] = []
    contents: list[Tensor] = []
    bad: dict[int, str] = {}
    with tqdm(total=len(paths), desc="looking at photographs", unit="", delay=1, leave=False) as bar:
        for start in range(0, len(paths), BATCH_SIZE):
            chunk = paths[start : start + BATCH_SIZE]
            pixels, problems = classifier.inputs_.read(chunk, start)
            bad |= problems
            good = [i for i in range(len(chunk)) if start + i not in problems]
            kept += [chunk[i] for i in good]
            if good:
                contents.append(classifier.encoder_.compute_content(pixels[good]))
            bar.update(len(chunk))
    for problem in (*bad.values(), *([unread] if unread else [])):
        logger.warning("left out: %s", problem)
    if not kept:
        raise DataError(f"{place}: none of its photographs can be read ({len(paths)} tried)")
    return EncodedPhotographs(place, kept, torch.cat(contents), len(bad))


def list_photographs(place: Path) -> tuple[list[Path], str]:
    """List the photographs of a folder and its subfolders, or the one file, and describe those of unread formats."""
    if not place.is_dir():
        if not place.exists():
            raise DataError(f"there is neither a photograph nor a folder {place}")
        return [place], ""
    found, others = list_image_files(place)
    unread = count_unread(path.name for path in others)
    if not found:
        raise DataError(f"{place}: no photograph in it" + (f" that can be read, but {unread}" if unread else ""))
    return found, unread
