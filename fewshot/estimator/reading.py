"""Whatever a user holds, paths, Pillow images, arrays or tensors, becomes uint8 pixels of one size."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewshot.errors import DataError
from fewshot.images.decode import Resize, check_pixel_options, decode_image, square_pixels
from fewshot.images.listing import few

N_THREADS = min(8, os.cpu_count() or 1)
AT_ONCE = 256  # images whose pixels are in memory together while a large folder is read


def as_list(images: Any) -> list[Any]:
    """The single images of a list, an array (n, H, W[, C]) or a tensor (n, C, H, W).

    One image alone is an error: it would be taken for a list of its rows.
    """
    if isinstance(images, str | Path | Image.Image):
        raise DataError(f"images is a list; for a single one write [image], got {images!r}")
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim not in (3, 4) or (images.ndim == 3 and images.shape[2] in (1, 3, 4)):
            raise DataError(
                f"an array of images is (n, height, width) or (n, height, width, channels), a tensor "
                f"(n, channels, height, width); got shape {tuple(images.shape)}"
            )
        return list(images)
    try:
        return list(images)
    except TypeError as error:
        raise DataError(f"images is a list of paths, Pillow images, arrays or tensors, got {type(images)}") from error


def name_of(image: Any, number: int) -> str:
    """What to call an image in a message: its path, or its place in the list."""
    return str(image) if isinstance(image, str | Path) else f"image {number}"


def read_images(
    images: Sequence[Any], size_px: int, channels: int = 3, resize: Resize = "pad", first: int = 0
) -> tuple[Tensor, dict[int, str]]:
    """Pixels (n, channels, size_px, size_px) uint8, and what is wrong with those that cannot be used.

    An image is the path of a file; a Pillow image; an array (height, width[, 1, 3 or 4 channels]) or a
    tensor ([1, 3 or 4,] height, width) of bytes, of numbers in 0..1, or of booleans. `resize`: see
    `decode_image`. `first`: number of the first image, for messages. Bad images are blank.
    """
    check_pixel_options(channels, size_px, resize)

    def one(numbered: tuple[int, Any]) -> np.ndarray | str:
        number, image = numbered
        try:
            return _pixels(image, name_of(image, number), channels, size_px, resize)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(one, enumerate(images, first)))
    bad = {i: pixels for i, pixels in enumerate(found) if isinstance(pixels, str)}
    blank = np.zeros((channels, size_px, size_px), np.uint8)
    good = [blank if isinstance(pixels, str) else pixels for pixels in found]
    return torch.from_numpy(np.stack(good) if good else blank[None][:0]), bad


def in_chunks(
    images: Sequence[Any], read: Callable[..., tuple[Tensor, dict[int, str]]]
) -> Iterator[tuple[int, Tensor]]:
    """(number of its first image, pixels) of chunk after chunk; one `DataError` names all bad images.

    The next chunk is read while the last one is used.
    """
    problems: list[str] = []
    starts = range(0, len(images), AT_ONCE)
    with ThreadPoolExecutor(1) as ahead:
        coming = [ahead.submit(read, images[:AT_ONCE], first=0)] if len(images) else []
        for start in starts:
            pixels, bad = coming.pop().result()
            following = start + AT_ONCE
            if following < len(images):
                coming.append(ahead.submit(read, images[following : following + AT_ONCE], first=following))
            problems += bad.values()
            if not problems:
                yield start, pixels
    if problems:
        raise DataError(f"{len(problems)} of {len(images)} images cannot be used: {few(problems)}")


def _pixels(image: Any, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    if isinstance(image, str | Path):
        return decode_image(Path(image), name, channels, size_px, resize)
    if isinstance(image, Tensor):
        array = image.detach().cpu().float().numpy() if image.is_floating_point() else image.detach().cpu().numpy()
        image = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if isinstance(image, np.ndarray):
        image = _from_array(image, name)
    if not isinstance(image, Image.Image):
        raise DataError(f"{name}: expected a path, a Pillow image, an array or a tensor, got {type(image).__name__}")
    return square_pixels(image, name, channels, size_px, resize)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """A Pillow image of (height, width[, channels]), with 1, 3 or 4 channels."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(
            f"{name}: an image has 1, 3 or 4 channels: an array is (height, width, channels), a tensor "
            f"(channels, height, width); as (height, width, channels) this one is {array.shape}"
        )
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if array.dtype.kind not in "fb":
        raise DataError(f"{name}: pixels are bytes (uint8) or numbers between 0 and 1, got {array.dtype}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: {int((~np.isfinite(array)).sum())} pixels are NaN or infinite")
    if array.min() < 0 or array.max() > 1:
        message = f"floating-point pixels lie between 0 and 1, these between {array.min():g} and {array.max():g}"
        raise DataError(f"{name}: {message}; divide by 255, or undo the normalisation")
    return Image.fromarray((array * 255 + 0.5).astype(np.uint8))
