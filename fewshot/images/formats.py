"""Which image files can be read, a Pillow image of their bytes, and what to do about formats that cannot be read."""

import io
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from fewshot.errors import DataError
from fewshot.images.metadata import strip_metadata

# Formats that are pictures by themselves. Pillow knows more, some of which start another program (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
}  # fmt: skip
OPTIONAL_SUFFIXES = {".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}  # which Pillow may not read
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
    """Those of `FORMATS` that can be read here: HEIF with pillow-heif, AVIF by younger Pillows."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN and (name != "AVIF" or _reads_avif()))


def is_image(file_name: str) -> bool:
    """Whether the suffix is one of an image format that can be read here."""
    suffix = Path(file_name).suffix.lower()
    return suffix in SUFFIXES or OPTIONAL_SUFFIXES.get(suffix) in list_readable_formats()


def count_unread(file_names: Iterable[str]) -> str:
    """How many of the files are photographs in formats that cannot be read here, and what to do; empty for none."""
    found = Counter(Path(name).suffix.lower() for name in file_names if find_unread_kind(name))
    if not found:
        return ""
    ways = dict.fromkeys(WAYS[find_unread_kind(f"x{suffix}")].partition("; ")[2] for suffix in found)
    count = ", ".join(f"{n} {suffix}" for suffix, n in sorted(found.items()))
    n = sum(found.values())
    many = "1 photograph in a format that is" if n == 1 else f"{n:,} photographs in formats that are"
    return f"{many} not read ({count}): {'; '.join(ways)}"


def open_image(data: bytes, name: str) -> Image.Image:
    """An image of the bytes of a file, its pixels not decoded yet; raises `DataError` for what is no readable image."""
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    image = _open(data) or _open(strip_metadata(data))
    if image is None:
        why = (
            _explain_foreign(data)
            or f"this is no image, or it breaks off within its first bytes; it begins with {data[:12]!r}"
        )
        raise DataError(f"{name}: {why}")
    return image


def _open(data: bytes) -> Image.Image | None:
    for name in list_readable_formats():
        factory, accepts = Image.OPEN[name]
        try:  # not Image.open: it warns of and refuses large JPEGs before they are asked for an eighth of their size
            if accepts is None or accepts(data[:16]) is True:
                return factory(io.BytesIO(data), "")
        except Exception:  # Pillow's parsers raise many kinds on damaged files
            continue
    return None


def _explain_foreign(data: bytes) -> str | None:
    """What to do with a photograph in a format that is not read here."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS and "HEIF" not in list_readable_formats():
        return WAYS["HEIF"]
    if brand in (b"avif", b"avis") and "AVIF" not in list_readable_formats():
        return WAYS["AVIF"]
    raw = brand == b"crx " or data.startswith((b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"MMOR", b"FOVb"))
    return WAYS["raw"] if raw else None


def find_unread_kind(file_name: str) -> str:
    """The key in `WAYS` of a photograph's format that cannot be read here, by its suffix; empty for other files."""
    suffix = Path(file_name).suffix.lower()
    if suffix in RAW_SUFFIXES:
        return "raw"
    kind = OPTIONAL_SUFFIXES.get(suffix, "")
    return "" if kind in list_readable_formats() else kind


@cache
def _reads_avif() -> bool:
    accepts: Callable[[bytes], bool | str] | None = Image.OPEN["AVIF"][1]
    return accepts is None or accepts(b"\0\0\0\x1cftypavif" + bytes(4)) is True
