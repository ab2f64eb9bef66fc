"""Remove the metadata of an image file, so that damaged metadata cannot make its pixels unreadable."""

import re
import struct
import zlib
from collections.abc import Iterator

PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"}  # pixels and orientation
WEBP_CHUNKS = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
WEBP_FLAGS = 0x12  # bits of VP8X for transparency and animation; the bits for profile, EXIF and XMP are cleared
# Tags that describe the pixels (size, compression, offsets, colours, prediction), and 274, the orientation.
TIFF_TAGS = {
    *range(254, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339,
    347, *range(512, 522), 529, 530, 531, 532,
}  # fmt: skip
JPEG_LEAST = {0xE0: 16, 0xEE: 14, 0xE1: 8}  # least sizes of the kept segments JFIF, Adobe and EXIF


def strip_metadata(data: bytes) -> bytes:
    """Remove all but the pixels and a readable orientation; files of other formats are returned unchanged."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"".join(_keep_png_parts(data))
    if data.startswith(b"\xff\xd8\xff"):
        return b"".join(_keep_jpeg_parts(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        body = b"".join(_keep_webp_parts(data))
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    if data.startswith((b"II*\0", b"MM\0*")):
        return _make_tiff(data)
    if data[4:8] == b"ftyp":  # rename the kinds of these items, so that readers ignore them
        return re.sub(rb"(infe.{8})(?:Exif|mime)", rb"\1none", data, flags=re.DOTALL)
    return data


def _keep_png_parts(data: bytes) -> Iterator[bytes]:
    yield data[:8]
    start = 8
    while start + 12 <= len(data):
        n_bytes, kind = struct.unpack_from(">I4s", data, start)
        chunk = data[start : start + 12 + n_bytes]
        whole = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if kind in PNG_CHUNKS and (whole or kind != b"eXIf"):
            yield chunk
        start += 12 + n_bytes


def _keep_jpeg_parts(data: bytes) -> Iterator[bytes]:
    yield data[:2]
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:  # until the scan begins
        marker, end = data[start + 1], start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        least = JPEG_LEAST.get(marker, len(data)) if 0xE0 <= marker <= 0xEF or marker == 0xFE else 0
        if end - start >= least and (marker != 0xE1 or data[start + 4 : start + 8] == b"Exif"):
            yield data[start:end]
        start = end
    yield data[start:]


def _keep_webp_parts(data: bytes) -> Iterator[bytes]:
    start = 12
    while start + 8 <= len(data):
        kind, n_bytes = struct.unpack_from("<4sI", data, start)
        end = start + 8 + n_bytes + n_bytes % 2
        if kind == b"VP8X" and n_bytes:
            yield data[start : start + 8] + bytes([data[start + 8] & WEBP_FLAGS]) + data[start + 9 : end]
        elif kind in WEBP_CHUNKS:
            yield data[start:end]
        start = end


def _make_tiff(data: bytes) -> bytes:
    order = "<" if data.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", data, place)
        entries = [data[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(n_entries)]
        kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in TIFF_TAGS]
    except struct.error:
        return data
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)  # offset 0: no second directory
    padded = data + bytes(len(data) % 2)
    return padded[:4] + struct.pack(f"{order}I", len(padded)) + padded[8:] + directory
