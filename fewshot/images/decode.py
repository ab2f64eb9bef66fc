"""An image file becomes uint8 pixels: the one owner of formats, colour modes, orientation and resizing."""

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fewshot.errors import DataError
from fewshot.registry import unknown_name

Resize = Literal["crop", "pad", "stretch"]
MODES = {1: "L", 3: "RGB"}  # Pillow's mode for that many channels
# Formats that are pictures by themselves. Pillow knows more, some of which start another program (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif",
}  # fmt: skip
DRAFT_GAP = 2  # a JPEG is decoded at least this many times larger than needed; as Pillow's `thumbnail`


def decode_image(source: Path | bytes, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    """The first frame of an image file, or of its bytes: uint8 (channels, size_px, size_px), contiguous.

    `channels`: 1 (grey) or 3 (RGB). `resize`: `crop` takes the largest centred square, `pad` fits the
    whole image on white, `stretch` ignores the aspect ratio; all by Lanczos with antialiasing. EXIF
    orientation is applied, transparency is laid on white, 16-bit grey is scaled from 0..65535 to 0..255.
    Raises `DataError` with `name` and the reason in plain words for anything that is no whole image.
    """
    check_pixel_options(channels, size_px, resize)
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: the file cannot be read ({error.strerror})") from error
    return square_pixels(_load(data, name, size_px, resize), name, channels, size_px, resize)


def square_pixels(image: Image.Image, name: str, channels: int, size_px: int, resize: Resize) -> np.ndarray:
    """A decoded image as `decode_image` gives it: uint8 (channels, size_px, size_px)."""
    pixels = np.asarray(_resized(_in_mode(image, name, MODES[channels]), size_px, resize))
    return np.array(pixels.reshape(size_px, size_px, channels).transpose(2, 0, 1), order="C")


def check_pixel_options(channels: int, size_px: int, resize: str) -> None:
    """Raise unless `decode_image` knows these."""
    if channels not in MODES:
        raise DataError(f"channels is 1 (grey) or 3 (colour), got {channels!r}")
    if not isinstance(size_px, int) or size_px < 1:
        raise DataError(f"size_px is a whole number of pixels, at least 1, got {size_px!r}")
    if resize not in get_args(Resize):
        raise unknown_name("resize rule", resize, get_args(Resize))


def open_zip(path: Path) -> zipfile.ZipFile:
    """The archive, opened once per process and state of the file; threads may read from it together."""
    stat = path.stat()
    return _opened(path, stat.st_size, stat.st_mtime_ns)


@cache
def _opened(path: Path, _n_bytes: int, _changed_ns: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no readable zip archive ({error}); delete it and fetch it again") from error


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # older Pillows know no AVIF


def _load(data: bytes, name: str, size_px: int, resize: Resize) -> Image.Image:
    """The decoded first frame, upright; a JPEG may come smaller, where that loses nothing."""
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    limit = Image.MAX_IMAGE_PIXELS
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        if limit is not None and image.width * image.height > limit:
            raise Image.DecompressionBombError
        width_px, height_px = _target(image, size_px, resize)
        image.draft(None, (DRAFT_GAP * width_px, DRAFT_GAP * height_px))
        image.load()
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        message = f"this is no image, or it breaks off within its first bytes; it begins with {data[:12]!r}"
        raise DataError(f"{name}: {message}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        message = f"the image has more than {limit:,} pixels, Pillow's guard against decompression bombs"
        raise DataError(f"{name}: {message}; make it smaller or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        raise DataError(f"{name}: the image is damaged or cut short ({error})") from error


def _in_mode(image: Image.Image, name: str, mode: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"{name}: pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _from_16_bits(image, name)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    try:
        return image.convert(mode)
    except ValueError as error:
        raise DataError(f"{name}: colours of mode {image.mode} cannot be turned into {mode}; save it as RGB") from error


def _from_16_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        message = f"grey values run from {values.min()} to {values.max()}, outside 16 bits (0..65535)"
        raise DataError(f"{name}: {message}; save it with 8 or 16 bits")
    grey = (values + 128) // 257  # 65535 = 257 * 255, rounded to the nearest
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _target(image: Image.Image, size_px: int, resize: Resize) -> tuple[int, int]:
    """(width_px, height_px) that the whole image is scaled to."""
    if resize == "stretch":
        return size_px, size_px
    side = min(image.size) if resize == "crop" else max(image.size)
    width_px, height_px = (max(1, round(length * size_px / side)) for length in image.size)
    return width_px, height_px


def _resized(image: Image.Image, size_px: int, resize: Resize) -> Image.Image:
    if resize == "crop":
        return ImageOps.fit(image, (size_px, size_px), Image.Resampling.LANCZOS)
    scaled = image.resize(_target(image, size_px, resize), Image.Resampling.LANCZOS)
    canvas = Image.new(image.mode, (size_px, size_px), "white")
    canvas.paste(scaled, ((size_px - scaled.width) // 2, (size_px - scaled.height) // 2))
    return canvas
