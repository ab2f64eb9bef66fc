"""Whatever a user holds, paths, Pillow images, arrays or tensors, becomes uint8 pixels of one size."""

import os
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import DataError
from fewshot.images.decode import Resize, check_pixel_options, decode_image, make_square
from fewshot.images.imageset import digest_images
from fewshot.images.listing import list_few

N_THREADS = min(8, os.cpu_count() or 1)
THUMBNAIL_PX = 64
CHANNELS = (1, 3, 4)
AT_ONCE = 256  # images whose pixels are in memory together while a large folder is read


def as_list(images: Any) -> list[Any]:
    """The single images of a list, an array (n, H, W[, C]), a tensor (n, C, H, W), or an array of paths.

    One image alone is an error: it would be taken for a list of its rows, or of its channels.
    """
    if isinstance(images, str | bytes | Path | Image.Image):
        raise DataError(f"images is a list; for a single one write [image], got {_shorten(images)}")
    if isinstance(images, Mapping | Set):
        raise DataError(f"images is a list, in the order of the labels, not a {type(images).__name__}")
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUST":
        if images.ndim != 1:
            message = f"an array of paths or Pillow images is flat, got shape {images.shape}"
            raise DataError(f"{message}; for a single one write [image]" if images.ndim == 0 else message)
        return images.tolist()
    if isinstance(images, np.ndarray | Tensor):
        shape = tuple(images.shape)
        if len(shape) == 3 and (shape[0] in CHANNELS or shape[2] in CHANNELS):
            raise DataError(
                f"is this of shape {shape} one image, or several grey ones? For one image write [image]; "
                f"several grey ones are an array (n, height, width, 1) or a tensor (n, 1, height, width)"
            )
        if len(shape) not in (3, 4):
            raise DataError(
                f"an array of images is (n, height, width) or (n, height, width, channels), a tensor "
                f"(n, channels, height, width); got shape {shape}"
            )
        return list(images)
    try:
        return list(images)
    except TypeError as error:
        kind = type(images).__name__
        raise DataError(f"images is a list of paths, Pillow images, arrays or tensors, got {kind}") from error


def _shorten(image: Any) -> str:
    text = repr(str(image)) if isinstance(image, Path) else repr(image)
    return text if len(text) < 100 else f"{text[:97]}..."


def name_of(image: Any, number: int) -> str:
    """What to call an image in a message: its path, or its place in the list."""
    return str(image) if isinstance(image, str | Path) else f"image {number}"


class Read(NamedTuple):
    """Some images as they were read, then encoded.

    `values` (n, …): pixels uint8 or features, later what the method classifies. `digests` (n, 8): hashes of the
    pixels, and `thumbnails` (n, 3, side, side) uint8; None where features were given.
    """

    names: tuple[str, ...]
    values: Tensor
    digests: np.ndarray | None = None
    thumbnails: Tensor | None = None


@dataclass(frozen=True)
class Reader:
    """Reads what a user holds as uint8 pixels of one size; without `channels`, X are features and stay themselves.

    An image is the path of a file; a Pillow image; an array (height, width[, 1, 3 or 4 channels]) or a
    tensor ([1, 3 or 4,] height, width) of bytes, of numbers in 0..1, or of booleans. `resize`: see `decode_image`.
    """

    channels: int
    size_px: int
    resize: Resize = "pad"

    def parts(self, images: Sequence[Any], at_once: int = AT_ONCE) -> Iterator[Read]:
        """Part after part of `at_once` images, the next one read while the last one is used.

        One `DataError` names all bad images.
        """
        if not self.channels:
            names = tuple(name_of(image, number) for number, image in enumerate(images))
            yield Read(names, torch.from_numpy(np.asarray(images, np.float32)))
            return
        problems: list[str] = []
        starts = range(0, len(images), at_once)
        with ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(self.read, images[:at_once])] if len(images) else []
            for start in starts:
                pixels, bad = coming.pop().result()
                following = start + at_once
                if following < len(images):
                    coming.append(ahead.submit(self.read, images[following : following + at_once], following))
                problems += bad.values()
                if not problems:
                    names = tuple(name_of(image, start + i) for i, image in enumerate(images[start:following]))
                    yield Read(names, pixels, digest_images(pixels.numpy()), _make_thumbnails(pixels))
        if problems:
            raise DataError(f"{len(problems)} of {len(images)} images cannot be used: {list_few(problems)}")

    def read(self, images: Sequence[Any], first: int = 0) -> tuple[Tensor, dict[int, str]]:
        """Pixels (n, channels, size_px, size_px) uint8, and what is wrong with bad images, by number; these are blank.

        `first`: number of the first image.
        """
        check_pixel_options(self.channels, self.size_px, self.resize)

        def one(numbered: tuple[int, Any]) -> np.ndarray | str:
            number, image = numbered
            try:
                return _read_pixels(image, name_of(image, number), self.channels, self.size_px, self.resize)
            except DataError as error:
                return str(error)

        with ThreadPoolExecutor(N_THREADS) as pool:
            found = list(pool.map(one, enumerate(images, first)))
        bad = {first + i: pixels for i, pixels in enumerate(found) if isinstance(pixels, str)}
        blank = np.zeros((self.channels, self.size_px, self.size_px), np.uint8)
        good = [blank if isinstance(pixels, str) else pixels for pixels in found]
        return torch.from_numpy(np.stack(good) if good else blank[None][:0]), bad


def _make_thumbnails(pixels: Tensor) -> Tensor:
    small = F.interpolate(pixels.float(), (THUMBNAIL_PX, THUMBNAIL_PX), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def _read_pixels(image: Any, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    if isinstance(image, str | Path):
        return decode_image(Path(image), name, channels, size_px, resize)
    if isinstance(image, Tensor):
        array = image.detach().cpu().float().numpy() if image.is_floating_point() else image.detach().cpu().numpy()
        image = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if isinstance(image, np.ndarray):
        image = _convert_array(image, name)
    if not isinstance(image, Image.Image):
        raise DataError(f"{name}: expected a path, a Pillow image, an array or a tensor, got {type(image).__name__}")
    return make_square(image, name, channels, size_px, resize)


def _convert_array(array: np.ndarray, name: str) -> Image.Image:
    """A Pillow image of (height, width[, channels]), with 1, 3 or 4 channels."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS[1:]) or 0 in array.shape:
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
