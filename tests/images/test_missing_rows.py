"""A PNG whose compressed pixels end too early is named, although Pillow leaves its last rows black without a word."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fewshot.errors import DataError
from fewshot.images.damage import find_missing_rows
from fewshot.images.decode import decode_image

PX = 24


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def make_png(n_bytes: int, depth: int = 8, colours: int = 2, interlaced: int = 0, value: int = 90) -> bytes:
    """A PNG of PX² pixels with `n_bytes` of rows; the stream of pixels is complete and ends as it should."""
    head = struct.pack(">IIBBBBB", PX, PX, depth, colours, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(3 * 16))) if colours == 3 else b""
    rows = bytes([0, *[value] * (n_bytes - 1)])
    if not interlaced:
        width = 1 + PX * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours] // 8
        rows = b"".join(b"\0" + rows[1:width] for _ in range(PX))[:n_bytes]
    packed = zlib.compress(rows)
    pixels = chunk(b"IDAT", packed[:10]) + chunk(b"IDAT", packed[10:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("depth", "colours", "width"), [(8, 2, 72), (8, 0, 24), (16, 0, 48), (4, 3, 12), (8, 6, 96)])
def test_rows_that_are_missing(depth, colours, width):
    whole = PX * (1 + width)
    decode_image(make_png(whole, depth, colours), "a.png", 3, PX, "pad")
    for missing in (1 + width, 10 * (1 + width)):
        says = rf"a\.png: .*cut short: its pixels end after {whole - missing:,} of {whole:,} bytes"
        with pytest.raises(DataError, match=says):
            decode_image(make_png(whole - missing, depth, colours), "a.png", 3, PX, "pad")


def test_interlaced_pixels_are_counted_pass_by_pass():
    passes = [(3, 3), (3, 3), (6, 3), (6, 6), (12, 6), (12, 12), (24, 12)]  # columns and rows of 24 x 24 pixels
    whole = sum(rows * (1 + columns) for columns, rows in passes)
    black = Image.new("L", (PX, PX))
    assert find_missing_rows(make_png(whole, 8, 0, 1, value=0), black) == ""
    assert f"of {whole:,} bytes" in find_missing_rows(make_png(whole - 1, 8, 0, 1, value=0), black)


def test_black_pictures_are_whole_and_others_are_decompressed_once(monkeypatch):
    whole = PX * (1 + 3 * PX)
    assert not decode_image(make_png(whole, value=0), "black.png", 3, PX, "pad").any()
    monkeypatch.setattr(zlib, "decompressobj", lambda: pytest.fail("decompressed a second time"))
    assert np.all(decode_image(make_png(whole), "grey.png", 3, PX, "pad") == 90)
