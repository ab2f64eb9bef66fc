"""Metadata never affects pixels, whether it is damaged or very large."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fewshot.images.decode import decode_image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
RUBBISH = b"rubbish" * 50
ORIENTATION = 0x0112


def encoded(file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode_image(data, "the-file", 3, 32, "pad")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_tag(data: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """Make a little-endian TIFF with one more entry in its directory."""
    (place,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, place)
    entries = [data[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(n)]
    entries = [entry for entry in entries if struct.unpack_from("<H", entry)[0] != tag]
    entries = sorted(
        [*entries, struct.pack("<HHII", tag, kind, count, value)], key=lambda e: struct.unpack_from("<H", e)
    )
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


@pytest.mark.parametrize(
    "content", [RUBBISH, b"Exif\0\0" + RUBBISH, b"II*\0\x08\0\0\0\xff\xff" + RUBBISH, b"x" * 60_000]
)
@pytest.mark.parametrize("option", ["exif", "icc_profile", "xmp"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore")  # Pillow's, of rubbish
def test_exif_profile_and_xmp_may_be_anything(file_format, option, content):
    data = encoded(file_format, **{option: content})
    np.testing.assert_array_equal(pixels(data), pixels(encoded(file_format)))


PNG_CHUNKS = {
    "text": chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(5_000_000))),
    "international text": chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(5_000_000))),
    "profile": chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(5_000_000))),
    "damaged": chunk(b"tEXt", b"abc")[:-1] + b"\0",
    "no text": chunk(b"zTXt", b"key\0\0nonsense"),
    "exif as text": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 3\nzz"),
    "animation": chunk(b"acTL", b"1"),
    "damaged exif": chunk(b"eXIf", b"MM")[:-1] + b"\0",
}


@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_chunks_of_a_png_may_be_anything(name):
    data = encoded("PNG")
    for place in (33, len(data) - 12):  # after the header, and before the end
        np.testing.assert_array_equal(pixels(data[:place] + PNG_CHUNKS[name] + data[place:]), pixels(data))


def test_a_png_keeps_its_orientation_and_its_transparency_beside_rubbish():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = encoded("PNG", exif=exif, transparency=(1, 2, 3))
    damaged = whole[:33] + PNG_CHUNKS["text"] + whole[33:]
    np.testing.assert_array_equal(pixels(damaged), pixels(whole))
    assert not np.array_equal(pixels(whole), pixels(encoded("PNG")))


JPEG_SEGMENTS = {
    "pictures": segment(0xE2, b"MPF\0" + RUBBISH),
    "no pictures": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "profile": segment(0xE2, b"ICC_PROFILE\0\x01\x05xx"),
    "photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\x05"),
    "adobe": segment(0xEE, b"Adobe"),
    "jfif": segment(0xE0, b"JFIF"),
    "comment": segment(0xFE, b"\xff" * 5000),
    "resolution": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x1a\0\5\0\0\0\1\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", JPEG_SEGMENTS)
@pytest.mark.filterwarnings("ignore")
def test_segments_of_a_jpeg_may_be_anything(name):
    data = encoded("JPEG")
    np.testing.assert_array_equal(pixels(data[:2] + JPEG_SEGMENTS[name] + data[2:]), pixels(data))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [(700, 4, 1, 8), (270, 2, 1000, 0x7FFFFFFF), (34665, 4, 1, 0x7FFFFFFF), (34853, 13, 1, 8), (282, 5, 1, 0x7FFFFFFF)],
)
@pytest.mark.filterwarnings("ignore")
def test_tags_of_a_tiff_may_be_anything(compression, tag, kind, count, value):
    data = encoded("TIFF", compression=compression)
    np.testing.assert_array_equal(pixels(with_tag(data, tag, kind, count, value)), pixels(data))


def test_a_webp_whose_exif_breaks_off():
    data = encoded("WEBP", exif=b"II*\0\x08\0\0\0\0\0" + b"padding!")
    place = data.find(b"EXIF")
    longer = data[: place + 4] + struct.pack("<I", 10**6) + data[place + 8 :]
    np.testing.assert_array_equal(pixels(longer), pixels(encoded("WEBP")))
