"""A photograph is read once: its size, its digests and a small upright picture of it."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from fewshot.errors import DataError
from fewshot.images.decode import decode_sized
from fewshot.runtime.files import read_regular

# Longer side of the small picture. A 12-megapixel JPEG is then decoded at an eighth of its size, the fastest
# there is, and 224 px is what most pretrained backbones see: blur that shows here shows to them.
LOOK_PX = 224
MAX_THREADS = 8
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Photograph:
    """A file's picture, upright: `width_px`, `height_px` as stored; `pixels` uint8 (h, w, 3), longer side as asked.

    `content`: a digest of the file's bytes; `picture`: one of `pixels`, so two files of different bytes
    that decode to the same have the same.
    """

    width_px: int
    height_px: int
    pixels: np.ndarray
    content: bytes
    picture: bytes

    @property
    def grey(self) -> Image.Image:
        """The small picture in grey."""
        return Image.fromarray(self.pixels).convert("L")


def read_photograph(path: Path, longer_px: int = LOOK_PX) -> Photograph:
    """Decode a file once, with little memory for JPEGs; raises `DataError` for anything that is no whole image."""
    data = read_regular(path, str(path))
    square, (width_px, height_px) = decode_sized(data, str(path), 3, longer_px, "pad")
    square = square.transpose(1, 2, 0)  # (longer_px, longer_px, 3)
    w, h = (max(1, round(side * longer_px / max(width_px, height_px))) for side in (width_px, height_px))
    left, top = (longer_px - w) // 2, (longer_px - h) // 2  # where `pad` puts the picture
    pixels = np.ascontiguousarray(square[top : top + h, left : left + w])
    return Photograph(width_px, height_px, pixels, _digest(data), _digest(repr(pixels.shape).encode() + pixels.data))


def read_all(
    paths: Iterable[Path], take: Callable[[Photograph], T], longer_px: int = LOOK_PX, n_threads: int | None = None
) -> Iterator[T | DataError]:
    """`take` of each photograph, in order; the `DataError` in its place where a file cannot be read.

    `n_threads`: Pillow decodes and scales outside Python's lock, so threads help; None: one for each
    core, 8 at most (a 50-megapixel PNG takes 150 MB while it is decoded, and each thread may hold one).
    """

    def one(path: Path) -> T | DataError:
        try:
            return take(read_photograph(path, longer_px))
        except DataError as error:
            return error

    n_threads = n_threads or min(MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = iter(paths)
        running = [pool.submit(one, path) for path in islice(waiting, 2 * n_threads)]
        while running:
            done = running.pop(0)
            running += [pool.submit(one, path) for path in islice(waiting, 1)]
            yield done.result()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
