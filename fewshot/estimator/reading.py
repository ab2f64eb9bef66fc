"""Reads paths, Pillow images, arrays or tensors as uint8 pixels of one size."""

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
from fewshot.runtime.counts import format_count

N_THREADS = min(8, os.cpu_count() or 1)
THUMBNAIL_PX = 64
CHANNELS = (1, 3, 4)
BATCH_SIZE = 256  # bounds the pixels in memory while a large folder is read


def is_grey_stack(images: Any, n_images: int | None = None) -> bool:
    """Whether `images` is an array (n, height, width) of grey images, which one (height, width, channels) is not."""
    is_array = isinstance(images, np.ndarray) and images.ndim == 3 and images.dtype.kind not in "OUST"
    return is_array and images.shape[2] not in CHANNELS and n_images in (None, len(images))


def list_images(images: Any, grey_stack: bool = False) -> list[Any]:
    """List the images in a list, an array (n, H, W[, C]), a tensor (n, C, H, W), or an array of paths.

    Raises `DataError` for a single image, which would otherwise be taken for a list of its rows or channels, and for 1,
    3 or 4 grey images in an array (n, H, W), which may be the channels of one, unless `grey_stack` says what they are.
    """
    if isinstance(images, str | bytes | bytearray | Path | Image.Image) or hasattr(images, "read"):
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
        if len(shape) == 3 and (shape[0] in CHANNELS or shape[2] in CHANNELS) and not grey_stack:
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


def name_image(image: Any, number: int) -> str:
    """Name an image in messages: by its path, or by its position in the list."""
    return str(image) if isinstance(image, str | Path) else f"image {number}"


class ImageBatch(NamedTuple):
    """A batch of images, first as read, then as encoded.

    `values` (n, …): uint8 pixels or given features; after encoding, what the method classifies. `digests` (n, 8):
    hashes of the pixels; `thumbnails` (n, 3, side, side) uint8. Both are None if features were given.
    """

    names: tuple[str, ...]
    values: Tensor
    digests: np.ndarray | None = None
    thumbnails: Tensor | None = None


@dataclass(frozen=True)
class Reader:
    """Reads images as uint8 pixels of one size; with 0 `channels`, X holds features, which are passed on unchanged.

    An image is the path of a file; the bytes of one, or a file opened to read them; a Pillow image; an array (height,
    width[, 1, 3 or 4 channels]) or a tensor ([1, 3 or 4,] height, width) of bytes, of numbers in 0..1, or of booleans.
    `resize`: see `decode_image`.
    """

    channels: int
    size_px: int
    resize: Resize = "pad"

    def read_batches(self, images: Sequence[Any]) -> Iterator[ImageBatch]:
        """Read the images in batches, the next one in the background; raises one `DataError` that names all bad images.

        Once an image is bad, no further batch is yielded, but all images are read so that the error is complete.
        """
        if not self.channels:
            names = tuple(name_image(image, number) for number, image in enumerate(images))
            yield ImageBatch(names, torch.from_numpy(np.asarray(images, np.float32)))
            return
        problems: list[str] = []
        with ThreadPoolExecutor(1) as background:
            pending = [background.submit(self.read, images[:BATCH_SIZE])] if len(images) else []
            for start in range(0, len(images), BATCH_SIZE):
                pixels, bad = pending.pop().result()
                end = start + BATCH_SIZE
                if end < len(images):
                    pending.append(background.submit(self.read, images[end : end + BATCH_SIZE], end))
                problems += bad.values()
                if not problems:
                    names = tuple(name_image(image, start + i) for i, image in enumerate(images[start:end]))
                    yield ImageBatch(names, pixels, digest_images(pixels.numpy()), _make_thumbnails(pixels))
        if problems:
            many = f"{len(problems)} of {len(images):,} images cannot be used: {list_few(problems)}"
            raise DataError(many if len(images) > 1 else problems[0])

    def read(self, images: Sequence[Any], first: int = 0) -> tuple[Tensor, dict[int, str]]:
        """Read pixels (n, channels, size_px, size_px) uint8; bad images are blank, and their errors come by number.

        `first`: number of the first of these images in the user's list.
        """
        check_pixel_options(self.channels, self.size_px, self.resize)

        def read_one(numbered: tuple[int, Any]) -> np.ndarray | str:
            number, image = numbered
            try:
                return _read_pixels(image, name_image(image, number), self.channels, self.size_px, self.resize)
            except DataError as error:
                return str(error)

        with ThreadPoolExecutor(N_THREADS) as pool:
            found = list(pool.map(read_one, enumerate(images, first)))
        bad = {first + i: error for i, error in enumerate(found) if isinstance(error, str)}
        blank = np.zeros((self.channels, self.size_px, self.size_px), np.uint8)
        pixels = [blank if isinstance(one, str) else one for one in found]
        return torch.from_numpy(np.stack(pixels) if pixels else blank[None][:0]), bad


def _make_thumbnails(pixels: Tensor) -> Tensor:
    small = F.interpolate(pixels.float(), (THUMBNAIL_PX, THUMBNAIL_PX), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def _read_pixels(image: Any, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    if isinstance(image, str | Path):
        return decode_image(Path(image), name, channels, size_px, resize)
    if not isinstance(image, Image.Image) and hasattr(image, "read"):
        try:
            image = image.read()
        except (OSError, ValueError) as error:  # a closed file raises ValueError
            raise DataError(f"{name}: the file object cannot be read ({error})") from error
        if isinstance(image, str):
            raise DataError(f'{name}: the file was opened as text; open it with "rb"')
    if isinstance(image, bytes | bytearray):
        return decode_image(bytes(image), name, channels, size_px, resize)
    if isinstance(image, Tensor):
        array = image.detach().cpu().float().numpy() if image.is_floating_point() else image.detach().cpu().numpy()
        image = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if isinstance(image, np.ndarray):
        image = _convert_array(image, name)
    if not isinstance(image, Image.Image):
        raise DataError(
            f"{name}: expected a path, bytes, a file, a Pillow image, an array or a tensor, got {type(image).__name__}"
        )
    return make_square(image, name, channels, size_px, resize)


def _convert_array(array: np.ndarray, name: str) -> Image.Image:
    """Convert an array (height, width[, channels]) with 1, 3 or 4 channels to a Pillow image."""
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
        count = format_count(int((~np.isfinite(array)).sum()), "pixel is", "pixels are")
        raise DataError(f"{name}: {count} NaN or infinite")
    if array.min() < 0 or array.max() > 1:
        message = f"floating-point pixels lie between 0 and 1, these between {array.min():g} and {array.max():g}"
        raise DataError(f"{name}: {message}; divide by 255, or undo the normalisation")
    return Image.fromarray((array * 255 + 0.5).astype(np.uint8))
