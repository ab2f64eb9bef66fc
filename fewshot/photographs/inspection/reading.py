"""Reads each photograph once: its size, its digests and a small upright picture."""

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

# Longer side of the small picture. libjpeg then decodes a 12-megapixel JPEG at an eighth of its size, its fastest
# mode; and most pretrained backbones take 224 px, so blur that is visible here is visible to them.
LOOK_PX = 224
MAX_THREADS = 8
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Photograph:
    """A decoded file, turned upright.

    `width_px`, `height_px`: full size. `pixels`: uint8 (h, w, 3), reduced. `content`: digest of the file's bytes.
    `picture`: digest of `pixels`, equal for different files that decode to the same pixels.
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
    """Decode a file, JPEGs at reduced size; raises `DataError` unless it is a complete image."""
    return decode_photograph(read_regular(path, str(path)), str(path), longer_px)


def decode_photograph(data: bytes, name: str, longer_px: int = LOOK_PX) -> Photograph:
    """Decode the content of a file called `name`; raises `DataError` unless it is a complete image."""
    square, (width_px, height_px) = decode_sized(data, name, 3, longer_px, "pad")
    square = square.transpose(1, 2, 0)  # (longer_px, longer_px, 3)
    w, h = (max(1, round(side * longer_px / max(width_px, height_px))) for side in (width_px, height_px))
    left, top = (longer_px - w) // 2, (longer_px - h) // 2  # where `pad` puts the picture
    pixels = np.ascontiguousarray(square[top : top + h, left : left + w])
    return Photograph(width_px, height_px, pixels, _digest(data), _digest(repr(pixels.shape).encode() + pixels.data))


def read_photographs(
    paths: Iterable[Path], take: Callable[[Photograph], T], longer_px: int = LOOK_PX, n_threads: int | None = None
) -> Iterator[T | DataError]:
    """Apply `take` to each photograph, in order; a file that cannot be read yields its `DataError`.

    `n_threads`: Pillow releases Python's lock while it decodes, so threads help. None: one for each core, at most 8,
    since each thread may hold a whole decoded file (150 MB for a PNG of 50 megapixels).
    """

    def read_one(path: Path) -> T | DataError:
        try:
            return take(read_photograph(path, longer_px))
        except DataError as error:
            return error

    n_threads = n_threads or min(MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as pool:
        waiting = iter(paths)
        running = [pool.submit(read_one, path) for path in islice(waiting, 2 * n_threads)]
        while running:
            done = running.pop(0)
            running += [pool.submit(read_one, path) for path in islice(waiting, 1)]
            yield done.result()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
