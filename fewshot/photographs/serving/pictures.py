"""Decodes the images that a predictor is given, and opens its network."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewshot.errors import CheckpointError, DataError
from fewshot.images.decode import Resize, decode_image, make_square

Picture = str | Path | bytes | Image.Image | np.ndarray
MAX_NAMED = 5  # bad images in one message


def decode_picture(image: Picture, number: int, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    """Decode an image to (channels, size_px, size_px) uint8; raises `DataError` naming the file, or its `number`."""
    name = str(image) if isinstance(image, str | Path) else f"image {number}"
    if isinstance(image, bytes):
        return decode_image(image, name, channels, size_px, resize)
    if isinstance(image, str | Path):
        return decode_image(Path(image), name, channels, size_px, resize)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise DataError(
                f"{name}: an array is (height, width) or (height, width, 3 or 4) of bytes (uint8), got "
                f"{image.shape} of {image.dtype}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise DataError(f"{name}: expected a path, bytes, a Pillow image or an array, got {type(image).__name__}")
    return make_square(image, name, channels, size_px, resize)


def check_all_read(bad: dict[int, str], n_images: int) -> None:
    """Raise `DataError` that says of each bad image, by its number, what is wrong."""
    if bad:
        if n_images == 1:
            raise DataError(next(iter(bad.values())))
        named = "; ".join(list(bad.values())[:MAX_NAMED])
        more = f"; and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
        raise DataError(f"{len(bad)} of {n_images} images cannot be used: {named}{more}")
    if not n_images:
        raise DataError("there is no image: the list is empty")


def check_list(images: object) -> None:
    """Raise `DataError` if a single image was given instead of a list."""
    if isinstance(images, str | bytes | Path | Image.Image) or not isinstance(images, Sequence | np.ndarray):
        raise DataError(f"images is a list; for a single one write [image], got {type(images).__name__}")


def hash_pixels(pixels: np.ndarray) -> np.ndarray:
    """Hash each image (n, …) uint8 to 8 bytes, (n, 8), as `fewshot.images.imageset.digest_images` does."""
    hashes = b"".join(hashlib.blake2b(i.tobytes(), digest_size=8).digest() for i in pixels)
    return np.frombuffer(hashes, np.uint8).reshape(len(pixels), 8)


def convert_groups(groups: Sequence[object] | None, n_images: int) -> np.ndarray | None:
    """Convert groups to strings (n,); raises `DataError` unless each image has one."""
    if groups is not None and len(groups) != n_images:
        raise DataError(f"{n_images} images need as many groups, or none; got {len(groups)}")
    return None if groups is None else np.array([str(group) for group in groups])


def open_encoder(path: Path, n_threads: int | None) -> Any:
    """Open the network; raises `CheckpointError` if the file is not one."""
    import onnxruntime  # an extra, which only those who open an exported folder need

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # what one image took is given back before the next
    options.intra_op_num_threads = n_threads or 0
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's kinds of errors share no name
        raise CheckpointError(f"{path} is no network that can be run ({error})") from error
