"""Files that are no images that fewshot reads, whatever their names say."""

from collections.abc import Iterator

import numpy as np
from pictures import GREY, PICTURE, Kind, save
from PIL import Image


def list_no_images() -> Iterator[tuple[str, Kind]]:
    ftyp = b"\0\0\0\x18ftyp%s\0\0\0\0mif1heic" + bytes(200)
    for name, data in {
        "nothing": b"", "a byte": b"\xff", "zeros": bytes(5000), "text": b"photograph\n" * 40,
        "a page": b"<!doctype html><html><body>404</body></html>", "XML": b'<?xml version="1.0"?><svg width="9"/>',
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="36" height="24"><rect width="9" height="9"/></svg>',
        "PDF": b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF", "EPS": save(PICTURE, "EPS"),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
        "ICO": save(PICTURE, "ICO", sizes=[(16, 16)]), "TGA": save(PICTURE, "TGA"), "PCX": save(PICTURE, "PCX"),
        "DDS": save(PICTURE, "DDS"), "ICNS": b"icns\0\0\0\x08", "PSD": b"8BPS\0\1" + bytes(60),
        "video": b"\0\0\0\x20ftypisom" + bytes(90), "WAV": b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
        "a program": b"\x7fELF" + bytes(90), "zip": b"PK\3\4" + bytes(90), "gzip": b"\x1f\x8b\x08" + bytes(90),
        "JPEG XL": b"\xff\x0a" + bytes(90), "HEIC": ftyp % b"heic", "Canon raw": ftyp % b"crx ",
        "Fujifilm raw": b"FUJIFILMCCD-RAW 0201" + bytes(200), "git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
        "AppleDouble": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(90),
        "SPIDER": save(Image.fromarray(GREY[..., 0].astype(np.float32)), "SPIDER"),
    }.items():  # fmt: skip
        words = {"nothing": "empty", "HEIC": "HEIC|damaged", "Canon raw": "raw file", "Fujifilm raw": "raw file"}
        yield name, Kind(data, says=words.get(name, "no image"))
