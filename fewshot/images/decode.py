"""Decode an image file to uint8 pixels: colour modes, orientation, resizing."""

import zipfile
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from fewshot.errors import DataError
from fewshot.images.damage import find_missing_rows, find_opened_damage
from fewshot.images.formats import open_image
from fewshot.images.metadata import strip_metadata
from fewshot.registry import unknown_name
from fewshot.runtime.files import LARGEST_BYTES, read_regular

Resize = Literal["crop", "pad", "stretch"]
ENCRYPTED = 0x1  # of the flags of a file in a zip archive
LARGEST_PX = 1 << 14  # of a side that images are scaled to
MODES = {1: "L", 3: "RGB"}  # Pillow's mode for that many channels
DRAFT_GAP = 2  # a JPEG is decoded to at least this factor times the needed size, as in Pillow's `thumbnail`
DECODER_VERSION = 2  # raise it when a file would decode to other pixels: stores are then rebuilt
EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MIRRORED_X, MIRRORED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # EXIF orientations that mirror an axis when they are undone


class Upright(NamedTuple):
    """A decoded image after its EXIF orientation was applied.

    `width_px` and `height_px` are the full size. `image` may be smaller, since a JPEG can be decoded at a fraction of
    its size; `box` (left, top, right, bottom) is the part of `image` that the picture covers, which can end within the
    last row and column.
    """

    image: Image.Image
    width_px: int
    height_px: int
    box: tuple[float, float, float, float]


def decode_image(source: Path | bytes, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    """Decode the first frame of an image file, or of its bytes: uint8 (channels, size_px, size_px), contiguous.

    `channels`: 1 (grey) or 3 (RGB). `resize`: `crop` takes the largest centred square, `pad` fits the whole image on
    white, `stretch` ignores the aspect ratio; all use Lanczos resampling with antialiasing. EXIF orientation is
    applied, transparent pixels become white, 16-bit grey is scaled from 0..65535 to 0..255. Raises `DataError` with
    `name` and the reason if the image is damaged or cannot be read.
    """
    return decode_sized(source, name, channels, size_px, resize)[0]


def decode_sized(
    source: Path | bytes, name: str, channels: int, size_px: int, resize: Resize
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the result of `decode_image`, and the full (width_px, height_px) of the upright image."""
    check_pixel_options(channels, size_px, resize)
    data = source if isinstance(source, bytes) else read_regular(source, name)
    try:
        upright = _load(open_image(data, name), name, size_px, resize)
    except DataError as error:
        bare = strip_metadata(data)
        if bare == data:
            raise
        try:  # damaged metadata must not make an image unreadable
            upright = _load(open_image(bare, name), name, size_px, resize)
        except DataError:
            raise error from None
    if damage := find_missing_rows(data, upright.image):
        raise DataError(f"{name}: the image is damaged or cut short: {damage}")
    return _scale_to_square(upright, name, channels, size_px, resize), (upright.width_px, upright.height_px)


def make_square(image: Image.Image, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    """Convert a Pillow image as `decode_image` does: uint8 (channels, size_px, size_px)."""
    if 0 in image.size:
        raise DataError(f"{name}: the image has no pixel: it is {image.width} x {image.height} px")
    if damage := find_opened_damage(image):
        raise DataError(f"{name}: the image is damaged or cut short: {damage}")
    return _scale_to_square(_turn_upright(image, name, image.size, image.size), name, channels, size_px, resize)


def _scale_to_square(upright: Upright, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    in_mode = upright._replace(image=_convert_mode(upright.image, name, MODES[channels]))
    pixels = np.asarray(_resize(in_mode, size_px, resize))
    return np.array(pixels.reshape(size_px, size_px, channels).transpose(2, 0, 1), order="C")


def check_pixel_options(channels: int, size_px: int, resize: str) -> None:
    """Raise `DataError` or `UnknownNameError` for values that `decode_image` does not support."""
    if channels not in MODES:
        raise DataError(f"channels is 1 (grey) or 3 (colour), got {channels!r}")
    if not isinstance(size_px, int) or not 1 <= size_px <= LARGEST_PX:
        raise DataError(f"size_px is a whole number of pixels from 1 to {LARGEST_PX:,}, got {size_px!r}")
    if resize not in get_args(Resize):
        raise unknown_name("resize rule", resize, get_args(Resize))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive, once per process unless the file changes; several threads may read from it."""
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the archive cannot be read ({error})") from error
    if not path.is_file():
        raise DataError(f"{path}: the archive is no regular file")
    return _open_zip(path, stat.st_size, stat.st_mtime_ns)


def read_member(path: Path, member: str) -> bytes:
    """The bytes of a file in a zip archive; raises `DataError` for one that is damaged, encrypted or a giant."""
    name = f"{path}: {member}"
    try:
        archive = open_zip(path)
        info = archive.getinfo(member)
        if info.file_size > LARGEST_BYTES:  # a few bytes can stand for a billion
            raise DataError(f"{name}: the file has {info.file_size:,} bytes, too many for an image")
        return archive.read(member)
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises BadZipFile, zlib.error, EOFError, NotImplementedError, …
        raise DataError(f"{name}: the archive is damaged here ({error})") from error


@cache
def _open_zip(path: Path, _n_bytes: int, _changed_ns: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is no readable zip archive ({error}); delete it and fetch it again") from error
    if any(info.flag_bits & ENCRYPTED for info in archive.infolist()):
        raise DataError(f"{path} is encrypted; unpack it and pack it anew without a password")
    return archive


def _load(image: Image.Image, name: str, size_px: int, resize: Resize) -> Upright:
    """Decode the first frame, upright; decode a JPEG at a fraction of its size if that is still large enough."""
    width_px, height_px = image.size
    target = _compute_target(width_px, height_px, size_px, resize)
    drafted = image.draft(None, (DRAFT_GAP * target[0], DRAFT_GAP * target[1]))
    n_pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if image.info.get("progressive"):  # all its coefficients stay in memory, 2 bytes each
        n_pixels = max(n_pixels, width_px * height_px // 2)
    if limit is not None and n_pixels > limit:
        raise DataError(
            f"{name}: the image has {width_px * height_px:,} pixels; decoding more than {limit:,} pixels takes "
            "too much memory: make it smaller or save it as a baseline JPEG, which is decoded at a fraction of its size"
        )
    extent = drafted[1][2:] if drafted else image.size
    return _turn_upright(image, name, (width_px, height_px), extent)


def _turn_upright(image: Image.Image, name: str, stored: tuple[int, int], extent: tuple[float, float]) -> Upright:
    """Decode an image and apply its EXIF orientation; `stored` is its full size, `extent` its size once decoded."""
    before = image.size
    try:
        image.load()
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        raise DataError(f"{name}: the image is damaged or cut short ({error})") from error
    orientation = _read_orientation(image)  # after loading: Pillow then has rotated a TIFF itself
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    if image.size != before:
        stored, extent = stored[::-1], extent[::-1]
    left = image.width - extent[0] if orientation in MIRRORED_X else 0
    top = image.height - extent[1] if orientation in MIRRORED_Y else 0
    return Upright(image, *stored, (left, top, left + extent[0], top + extent[1]))


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF
        return 1


def _convert_mode(image: Image.Image, name: str, mode: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"{name}: pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _convert_16_bits(image, name)
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    try:
        return image.convert(mode)
    except ValueError as error:
        raise DataError(f"{name}: colours of mode {image.mode} cannot be turned into {mode}; save it as RGB") from error


def _convert_16_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        message = f"grey values run from {values.min()} to {values.max()}, outside 16 bits (0..65535)"
        raise DataError(f"{name}: {message}; save it with 8 or 16 bits")
    grey = (values + 128) // 257  # 65535 = 257 * 255, rounded to the nearest
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _compute_target(width_px: int, height_px: int, size_px: int, resize: Resize) -> tuple[int, int]:
    """Compute the (width_px, height_px) to which a whole image of this size is scaled."""
    if resize == "stretch":
        return size_px, size_px
    side = min(width_px, height_px) if resize == "crop" else max(width_px, height_px)
    return max(1, round(width_px * size_px / side)), max(1, round(height_px * size_px / side))


def _resize(upright: Upright, size_px: int, resize: Resize) -> Image.Image:
    image, box = upright.image, upright.box
    if resize == "crop":
        left, top, right, bottom = box
        side = min(right - left, bottom - top)
        left, top = left + (right - left - side) / 2, top + (bottom - top - side) / 2
        return image.resize((size_px, size_px), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    target = _compute_target(upright.width_px, upright.height_px, size_px, resize)
    scaled = image.resize(target, Image.Resampling.LANCZOS, box=box)
    canvas = Image.new(image.mode, (size_px, size_px), "white")
    canvas.paste(scaled, ((size_px - scaled.width) // 2, (size_px - scaled.height) // 2))
    return canvas
