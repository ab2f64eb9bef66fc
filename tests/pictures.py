"""One picture, four quarters of 18 x 12 px, and files of it written by hand where Pillow writes none."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 36, 24
ORIENTATION = 0x0112
COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (230, 210, 90))


class Kind(NamedTuple):
    """`data` of a file, `picture` (height, width, 3) that it shows, or `says`, a word of the error."""

    data: bytes
    picture: np.ndarray | None = None
    off_by: int = 0
    says: str = ""


def draw() -> np.ndarray:
    """Draw the picture, (height, width, 3)."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        top, left = number // 2 * HEIGHT // 2, number % 2 * WIDTH // 2
        picture[top : top + HEIGHT // 2, left : left + WIDTH // 2] = colour
    return picture


PICTURE = draw()
GREY = np.repeat(np.asarray(Image.fromarray(PICTURE).convert("L"))[..., None], 3, 2)
BLACK = np.repeat(np.where(GREY[..., :1] > 110, 255, 0).astype(np.uint8), 3, 2)
# What is stored of the picture for each orientation; EXIF 2.3, table of 0th row and column.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: np.rot90(p, -1),
}


def save(image: Image.Image | np.ndarray, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, file_format, **options)
    return buffer.getvalue()


def half_clear(picture: np.ndarray) -> np.ndarray:
    """The picture with its right half transparent, on white."""
    clear = picture.copy()
    clear[:, WIDTH // 2 :] = 255
    return clear


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, interlace: int = 0, *more: bytes) -> bytes:
    """A PNG of filtered `rows`, written by hand: Pillow writes neither 16-bit colours nor interlaced ones."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def adam7(picture: np.ndarray) -> bytes:
    """The rows of an interlaced PNG: seven smaller pictures (PNG specification, section 8.2)."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    return b"".join(b"\0" + row.tobytes() for top, left, h, w in passes for row in picture[top::h, left::w])


def bmp(bits: int, rows: bytes, palette: bytes = b"", height: int = HEIGHT, compression: int = 0) -> bytes:
    """A Windows bitmap, written by hand; a negative height stores the rows from the top."""
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
    return head + info + palette + rows


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """A TIFF of one strip, written by hand; `data` begins at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def list_orientations() -> Iterator[tuple[str, Kind]]:
    for name, options, off_by in (
        ("JPEG", {"quality": 98, "subsampling": 0}, 5), ("PNG", {}, 0), ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0), ("TIFF", {"compression": "tiff_lzw"}, 0),
    ):  # fmt: skip
        for orientation, turn in STORED.items():
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            data = save(np.ascontiguousarray(turn(PICTURE)), name, exif=exif, **options)
            yield (
                f"{name}{' compressed' * ('compression' in options)} turned {orientation}",
                Kind(data, PICTURE, off_by),
            )
    for orientation in (0, 9, 65535):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        yield f"PNG turned {orientation}", Kind(save(PICTURE, "PNG", exif=exif), PICTURE)
