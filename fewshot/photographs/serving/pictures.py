"""What a predictor is given becomes pixels, and pixels become features."""

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
    """Pixels (channels, size_px, size_px) uint8; raises `DataError` with the name of the file, or `number`."""
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
    """Raise `DataError` with what is wrong with bad images, by number."""
    if bad:
        named = "; ".join(list(bad.values())[:MAX_NAMED])
        more = f"; and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
        raise DataError(f"{len(bad)} of {n_images} images cannot be used: {named}{more}")
    if not n_images:
        raise DataError("there is no image: the list is empty")


def check_list(images: object) -> None:
    """Raise `DataError` for one image that was given in the place of a list."""
    if isinstance(images, str | bytes | Path | Image.Image) or not isinstance(images, Sequence | np.ndarray):
        raise DataError(f"images is a list; for a single one write [image], got {type(images).__name__}")


def hash_pixels(pixels: np.ndarray) -> np.ndarray:
    """An 8-byte hash of each image (n, …) uint8, (n, 8), as of `fewshot.images.imageset.digest_images`."""
    hashes = b"".join(hashlib.blake2b(i.tobytes(), digest_size=8).digest() for i in pixels)
    return np.frombuffer(hashes, np.uint8).reshape(len(pixels), 8)


def as_groups(groups: Sequence[object] | None) -> np.ndarray | None:
    """Groups as strings (n,)."""
    return None if groups is None else np.array([str(group) for group in groups])


def open_encoder(path: Path, n_threads: int | None) -> Any:
    """The network; raises `CheckpointError` for a file that is none."""
    import onnxruntime  # an extra, which only those who open an exported folder need

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # what one image took is given back before the next
    options.intra_op_num_threads = n_threads or 0
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's kinds of errors share no name
        raise CheckpointError(f"{path} is no network that can be run ({error})") from error
