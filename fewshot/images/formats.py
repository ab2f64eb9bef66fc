"""Image formats: which can be read, opening their files, and advice on formats that cannot be read."""

import io
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from fewshot.errors import DataError
from fewshot.images.damage import find_damage
from fewshot.images.metadata import strip_metadata

# Pillow knows more formats, some of which start another program (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
}  # fmt: skip
OPTIONAL_SUFFIXES = {".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}  # not every Pillow reads them
RAW_SUFFIXES = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"heif"}
WAYS = {
    "HEIF": "this is HEIC; convert it to JPEG, or have it read: pip install pillow-heif",
    "AVIF": "this is AVIF, which this Pillow cannot read; convert it to JPEG, or pip install --upgrade pillow",
    "raw": "this is a camera's raw file; develop it, or take the JPEG that the camera stored beside it",
}


@cache
def list_readable_formats() -> tuple[str, ...]:
    """List the `FORMATS` that this installation reads: HEIF needs pillow-heif, AVIF a recent Pillow."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN and (name != "AVIF" or _reads_avif()))


def is_image(file_name: str) -> bool:
    """Whether the suffix of a file is that of a readable image format."""
    suffix = Path(file_name).suffix.lower()
    return suffix in SUFFIXES or OPTIONAL_SUFFIXES.get(suffix) in list_readable_formats()


def count_unread(file_names: Iterable[str]) -> str:
    """Describe how many files are photographs in unreadable formats, and what to do; "" if there are none."""
    found = Counter(Path(name).suffix.lower() for name in file_names if find_unread_kind(name))
    if not found:
        return ""
    ways = dict.fromkeys(WAYS[find_unread_kind(f"x{suffix}")].partition("; ")[2] for suffix in found)
    count = ", ".join(f"{n} {suffix}" for suffix, n in sorted(found.items()))
    n = sum(found.values())
    many = "1 photograph in a format that is" if n == 1 else f"{n:,} photographs in formats that are"
    return f"{many} not read ({count}): {'; '.join(ways)}"


def open_image(data: bytes, name: str) -> Image.Image:
    """Open an image from the bytes of a file without decoding its pixels; raises `DataError` if it is unreadable."""
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    if damage := find_damage(data):
        raise DataError(f"{name}: the image is damaged or cut short: {damage}")
    image = _open(data) or _open(strip_metadata(data))
    if image is None:
        raise DataError(f"{name}: {_explain_foreign(data) or _explain_beginning(data)}")
    return image


def _open(data: bytes) -> Image.Image | None:
    for name in list_readable_formats():
        factory, _ = Image.OPEN[name]
        try:  # not Image.open, which refuses large JPEGs although they can be decoded at an eighth of their size
            if _begins_as(name, data):
                return factory(io.BytesIO(data), "")
        except Exception:  # Pillow's parsers raise many kinds on damaged files
            continue
    return None


def _begins_as(name: str, data: bytes) -> bool:
    accepts: Callable[[bytes], bool | str] | None = Image.OPEN[name][1]
    return accepts is None or accepts(data[:16]) is True


def _explain_beginning(data: bytes) -> str:
    for name in list_readable_formats():
        if _begins_as(name, data):
            return f"the image is damaged or cut short: it begins as {name} does, and cannot be read any further"
    return f"this is no image, or it is cut off within its first bytes; it begins with {str(data[:12])[1:]}"


def _explain_foreign(data: bytes) -> str | None:
    """Give advice on a photograph in an unreadable format; None for other files."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS and "HEIF" not in list_readable_formats():
        return WAYS["HEIF"]
    if brand in (b"avif", b"avis") and "AVIF" not in list_readable_formats():
        return WAYS["AVIF"]
    raw = brand == b"crx " or data.startswith((b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"MMOR", b"FOVb"))
    return WAYS["raw"] if raw else None


def find_unread_kind(file_name: str) -> str:
    """Find the key in `WAYS` for the suffix of a photograph in an unreadable format; "" for other files."""
    suffix = Path(file_name).suffix.lower()
    if suffix in RAW_SUFFIXES:
        return "raw"
    kind = OPTIONAL_SUFFIXES.get(suffix, "")
    return "" if kind in list_readable_formats() else kind


@cache
def _reads_avif() -> bool:
    return _begins_as("AVIF", b"\0\0\0\x1cftypavif" + bytes(4))
