"""Finds image files that decode without an error although a part of their picture is missing."""

import struct
import zlib
from typing import Any

from PIL import Image

from fewshot.runtime.files import LARGEST_BYTES

BLANK = bytes(1024)  # at the end of compressed pixels: never written by an encoder, always by a copy that broke off
PIXELS_PER_BYTE = 512  # of a JPEG: a block of 8 x 8 takes a bit at least
PNG = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of a PNG
# of each pass of an interlaced PNG: x and y of its first pixel, and its steps in x and y
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
LARGE = 1 << 26  # pixels from which a JPEG is held against its size: arithmetic coding takes less than a bit a block


def find_damage(data: bytes) -> str:
    """Say what is missing in a JPEG, WebP, AVIF or HEIC file; "" if nothing is, or if it cannot be known.

    Programs and systems that allocate a file before they fill it leave zeros at its end when they are interrupted.
    Decoders take them for pixels.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _find_jpeg_damage(data)
    if data.startswith(b"RIFF") and data[8:16] == b"WEBPVP8 ":
        return _describe_blank(data[: 20 + struct.unpack_from("<I", data.ljust(20, b"\0"), 16)[0]])
    if data[4:8] == b"ftyp":
        return _find_box_damage(data)
    return ""


def find_missing_rows(data: bytes, image: Image.Image) -> str:
    """Say that a PNG's pixels end too early, of which Pillow says nothing: it leaves the rest of `image` black.

    Its pixels are decompressed a second time only if a side of the decoded and turned `image` is black.
    """
    if not data.startswith(PNG) or data[12:16] != b"IHDR" or not _has_black_side(image):
        return ""
    width, height, depth, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    expected, found, start, unpack = 0, 0, 8, zlib.decompressobj()
    for x, y, dx, dy in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        expected += max(0, rows) * (1 + -(-columns * depth * CHANNELS.get(colours, 1) // 8)) if columns > 0 else 0
    while start + 12 <= len(data) and found < expected:
        n_bytes, kind = struct.unpack_from(">I4s", data, start)
        packed = data[start + 8 : start + 8 + n_bytes] if kind == b"IDAT" else b""
        start += 12 + n_bytes
        while packed and found < expected and not unpack.eof:
            found += len(unpack.decompress(packed, 1 << 20))
            packed = unpack.unconsumed_tail
    return "" if found >= expected else f"its pixels end after {found:,} of {expected:,} bytes"


def _has_black_side(image: Image.Image) -> bool:
    right, bottom = image.size
    sides = ((0, 0, right, 1), (0, bottom - 1, right, bottom), (0, 0, 1, bottom), (right - 1, 0, right, bottom))
    return any(not image.crop(side).tobytes().strip(b"\0") for side in sides)


def find_opened_damage(image: Image.Image) -> str:
    """Say what is missing in the file that Pillow opened, if it has not decoded it yet."""
    file: Any = getattr(image, "fp", None)
    try:
        place = file.tell()
        file.seek(0)
        data = file.read(LARGEST_BYTES)
        file.seek(place)
    except (AttributeError, OSError, ValueError):  # decoded, closed, or made of no file
        return ""
    return find_damage(data)


def _find_jpeg_damage(data: bytes) -> str:
    start, n_pixels = 2, 0
    while start + 9 < len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:  # until the scan begins
        marker, n_bytes = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == 0xFF:  # any number of these may stand before a marker
            start += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height_px, width_px = struct.unpack_from(">HH", data, start + 5)
            n_pixels = height_px * width_px
        start += 2 + n_bytes
    if n_pixels > max(LARGE, PIXELS_PER_BYTE * len(data)):
        return f"{len(data):,} bytes are too few for the {n_pixels:,} pixels that it announces"
    if data.find(b"\xff\xd9", start) >= 0:  # the mark of the end, which no pixels contain
        return ""
    return _describe_blank(data)


def _find_box_damage(data: bytes) -> str:
    start = 0
    while start + 16 <= len(data):
        n_bytes, kind, large = struct.unpack_from(">I4sQ", data, start)
        n_bytes = {0: len(data) - start, 1: large}.get(n_bytes, n_bytes)
        if kind == b"mdat" and (blank := _describe_blank(data[start : start + n_bytes])):
            return blank
        start += max(n_bytes, 8)
    return ""


def _describe_blank(data: bytes) -> str:
    if not data.endswith(BLANK):
        return ""
    return f"its pixels end in {len(data) - len(data.rstrip(bytes(1))):,} zero bytes, as of a copy that was interrupted"
