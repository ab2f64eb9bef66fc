"""A hundred kinds of image files of one picture, four quarters of 18 x 12 px, and of files that are no such image.

Each kind is bytes and what reading them must give: the picture (in colour, grey, or black and white), with how far it
may be off, or a word of the sentence that refuses them.
"""

import base64
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from no_images import list_no_images
from pictures import (
    BLACK,
    COLOURS,
    GREY,
    HEIGHT,
    PICTURE,
    WIDTH,
    Kind,
    adam7,
    bmp,
    chunk,
    half_clear,
    list_orientations,
    png,
    save,
    tiff,
)  # fmt: skip
from PIL import Image, ImageCms

# Arithmetic coding, which Pillow reads and does not write: of `PICTURE`, by cjpeg -arithmetic -quality 92.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwS"
    "ExIQEw8QEBD/2wBDAQMDAwQDBAgEBAgQCwkLEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBD/yQAR"
    "CAAYACQDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANH3k69mHzbOi9TuTalU3C23WFa5de7NJN1juz/g0rTUqF3ZCL+6"
    "KuyKDrvo8fB6R3riQlrvc223BtrCzr2q9UF3+WhNxgPwinE3PcEnp84jlY1yBTfuCUyWzf2eTpwLUAAU7/prQuRAD/TNC7TccIlvFHo6MFjV"
    "uqI7gDEhprKYtH+jYL/5CkMqvgmCxPzf6QFGiZ4nzhv26AJ3FkTdDVV/mLQCKW3IqAbt0btYnjJxsHzg1P7rhZdhEcc9pjM5K7YcqAreIcTl"
    "WsRrL8cQiiFvxtmUrNjwzfzVyJdOOi/SHxJWddbH4L2HvO4InR1YGs8gNGpcev/Z"
)


def list_colour_modes() -> Iterator[tuple[str, Kind]]:
    colour, grey = Image.fromarray(PICTURE), Image.fromarray(GREY[..., 0])
    mask = Image.fromarray(np.where(np.arange(WIDTH) < WIDTH // 2, 255, 0)[None].repeat(HEIGHT, 0).astype(np.uint8))
    black, palette = Image.fromarray(BLACK[..., 0]).convert("1"), colour.quantize(4)
    blue = palette.getpixel((0, HEIGHT - 1))
    clear, deep = colour.copy(), GREY[..., 0].astype(np.uint16) * 257
    clear.putalpha(mask)
    grey_clear = grey.copy()
    grey_clear.putalpha(mask)
    no_blue, at = PICTURE.copy(), (slice(HEIGHT // 2, None), slice(0, WIDTH // 2))
    no_blue[at] = 255
    no_grey = GREY.copy()
    no_grey[at] = 255
    of = {"1": (black, BLACK), "L": (grey, GREY), "P": (palette, PICTURE), "RGB": (colour, PICTURE)}
    for name in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000"):
        for mode, (image, picture) in of.items():
            if (name, mode) not in {("PPM", "P"), ("JPEG2000", "P"), ("JPEG2000", "1")}:
                options = {"WEBP": {"lossless": True}}.get(name, {})
                yield f"{name} {mode}", Kind(save(image, name, **options), picture)
        if name not in {"BMP", "GIF", "PPM", "JPEG2000"}:
            options = {"WEBP": {"lossless": True}}.get(name, {})
            yield f"{name} RGBA", Kind(save(clear, name, **options), half_clear(PICTURE))
    for name in ("PNG", "TIFF", "JPEG2000"):
        yield f"{name} LA", Kind(save(grey_clear, name), half_clear(GREY))
        yield f"{name} I;16", Kind(save(deep, name), GREY)
    yield "JPEG2000 RGBA", Kind(save(clear, "JPEG2000"), half_clear(PICTURE))
    yield "PPM I;16", Kind(save(deep, "PPM"), GREY)
    yield "PNG P, one colour clear", Kind(save(palette, "PNG", transparency=blue), no_blue)
    alphas = bytes(0 if i == blue else 255 for i in range(4))
    yield "PNG P, alpha of each colour", Kind(save(palette, "PNG", transparency=alphas), no_blue)
    yield "GIF P, one colour clear", Kind(save(palette, "GIF", transparency=blue), no_blue)
    yield "PNG RGB, one colour clear", Kind(save(colour, "PNG", transparency=COLOURS[2]), no_blue)
    yield "PNG L, one grey clear", Kind(save(grey, "PNG", transparency=int(GREY[-1, 0, 0])), no_grey)
    yield "PNG I;16, one grey clear", Kind(save(deep, "PNG", transparency=int(deep[-1, 0])), no_grey)
    yield "TIFF CMYK", Kind(save(colour.convert("CMYK"), "TIFF"), PICTURE, 1)
    yield "TIFF YCbCr", Kind(save(colour.convert("YCbCr"), "TIFF"), PICTURE, 3)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    yield "TIFF LAB", Kind(save(ImageCms.applyTransform(colour, to_lab), "TIFF"), PICTURE, 2)
    yield "TIFF I", Kind(save(Image.fromarray(deep.astype(np.int32)), "TIFF"), GREY)
    yield "TIFF I too large", Kind(save(Image.fromarray(deep.astype(np.int32) * 2), "TIFF"), says="outside 16 bits")
    yield "TIFF F", Kind(save(Image.fromarray(GREY[..., 0] / np.float32(255)), "TIFF"), says="floating-point")


def list_png() -> Iterator[tuple[str, Kind]]:
    wide = PICTURE.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    yield "PNG 16-bit colours", Kind(png(WIDTH, HEIGHT, 16, 2, rows), PICTURE)
    alpha = np.dstack([wide, np.full((HEIGHT, WIDTH), 0xFFFF, ">u2")])
    alpha[:, WIDTH // 2 :, 3] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in alpha)
    yield "PNG 16-bit colours with alpha", Kind(png(WIDTH, HEIGHT, 16, 6, rows), half_clear(PICTURE))
    rows = b"".join(b"\0" + row[:, [0, 3]].tobytes() for row in np.dstack([GREY.astype(">u2") * 257, alpha[..., 3:]]))
    yield "PNG 16-bit grey with alpha", Kind(png(WIDTH, HEIGHT, 16, 4, rows), half_clear(GREY))
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in BLACK[..., 0] > 0)
    yield "PNG 1-bit grey", Kind(png(WIDTH, HEIGHT, 1, 0, rows), BLACK)
    fours = BLACK[..., 0] >> 4
    rows = b"".join(b"\0" + (row[::2] << 4 | row[1::2]).tobytes() for row in fours)
    yield "PNG 4-bit grey", Kind(png(WIDTH, HEIGHT, 4, 0, rows), BLACK)
    yield "PNG interlaced", Kind(png(WIDTH, HEIGHT, 8, 2, adam7(PICTURE), 1), PICTURE)
    plain = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    yield "PNG of no height", Kind(png(WIDTH, 0, 8, 2, b""), says="damaged or cut short")
    yield "PNG bomb", Kind(png(60_000, 60_000, 1, 0, bytes(100)), says="3,600,000,000 pixels")
    yield (
        "PNG of text that is a bomb",
        Kind(
            png(WIDTH, HEIGHT, 8, 2, plain, 0, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(30_000_000)))] * 3),
            PICTURE,
        ),
    )


def list_jpeg() -> Iterator[tuple[str, Kind]]:
    colour, grey = Image.fromarray(PICTURE), Image.fromarray(GREY[..., 0])
    best = {"quality": 98, "subsampling": 0}
    whole = save(colour, "JPEG", **best)
    for name, options in {
        "": best,
        " progressive": best | {"progressive": True},
        " with 4:2:0 colours": {"quality": 98},
        " optimised": best | {"optimize": True},
        " with restarts": best | {"restart_marker_blocks": 1},
        " with a profile of 300 kB": best | {"icc_profile": bytes(300_000)},
        " with a comment of 60 kB": best | {"comment": bytes(60_000)},
        " with EXIF of 60 kB": best | {"exif": b"Exif\0\0" + bytes(60_000)},
    }.items():
        yield f"JPEG{name}", Kind(save(colour, "JPEG", **options), PICTURE, 5)
    yield "JPEG grey", Kind(save(grey, "JPEG", quality=98), GREY, 5)
    yield "JPEG CMYK", Kind(save(colour.convert("CMYK"), "JPEG", **best), PICTURE, 5)
    yield "JPEG arithmetic", Kind(ARITHMETIC, PICTURE, 5)
    yield "JPEG at an eighth", Kind(save(colour.resize((720, 480), 0), "JPEG", **best), PICTURE, 5)
    yield "MPO", Kind(save(colour, "MPO", save_all=True, append_images=[grey.convert("RGB")], **best), PICTURE, 5)
    yield "JPEG and rubbish", Kind(whole + bytes(range(256)) * 50, PICTURE, 5)
    yield "JPEG twice", Kind(whole + save(PICTURE[::-1], "JPEG"), PICTURE, 5)
    yield "JPEG and an archive", Kind(whole + b"PK\3\4" + bytes(200), PICTURE, 5)
    for share in (0.02, 0.3, 0.6, 0.9):
        yield f"JPEG cut at {share}", Kind(whole[: int(share * len(whole))], says="damaged or cut short")
    yield (
        "JPEG of a billion pixels",
        Kind(
            whole.replace(struct.pack(">HH", HEIGHT, WIDTH), b"\xff\xdc\xff\xdc", 1),
            says="too few for the 4,290,250,000 pixels",
        ),
    )
    yield "JPEG without tables", Kind(b"\xff\xd8" + whole[whole.index(b"\xff\xda") :], says="damaged or cut short")


def list_interrupted_copies() -> Iterator[tuple[str, Kind]]:
    noise = Image.effect_noise((200, 160), 60).convert("RGB")
    for name, options in (
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("JPEG2000", {}),
        ("AVIF", {}),
    ):  # fmt: skip
        data = save(noise, name, **options)
        half = data[: len(data) // 2]
        blank = half + bytes(len(data) - len(half))
        yield f"{name}{' progressive' * len(options)} copied by half", Kind(blank, says="damaged or cut short")
        yield f"{name}{' progressive' * len(options)} cut by half", Kind(half, says="damaged or cut short")
    yield "JPEG in a block of zeros", Kind(save(PICTURE, "JPEG", quality=98) + bytes(4096), PICTURE, 5)
    yield "WEBP in a block of zeros", Kind(save(PICTURE, "WEBP", lossless=True) + bytes(4096), PICTURE)
    yield "AVIF in a block of zeros", Kind(save(PICTURE, "AVIF", quality=98) + bytes(4096), PICTURE, 5)


def list_frames() -> Iterator[tuple[str, Kind]]:
    others = [Image.fromarray(PICTURE[::-1]), Image.fromarray(PICTURE[:, ::-1])]
    for name in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"WEBP": {"lossless": True}}.get(name, {})
        yield (
            f"{name} of three frames",
            Kind(save(PICTURE, name, save_all=True, append_images=others, **options), PICTURE),
        )
    gif = save(PICTURE, "GIF")
    yield "GIF and rubbish", Kind(gif + b"rubbish", PICTURE)
    yield "GIF cut short", Kind(gif[: len(gif) // 2], says="damaged or cut short")
    yield "GIF of a huge canvas", Kind(gif[:6] + b"\xff\xff\xff\xff" + gif[10:], says="4,294,836,225 pixels")
    webp = save(PICTURE, "WEBP", lossless=True)
    yield "WEBP lossy", Kind(save(PICTURE, "WEBP", quality=100), PICTURE, 5)
    yield "WEBP and rubbish", Kind(webp + b"rubbish" * 9, PICTURE)
    yield "WEBP cut short", Kind(webp[: len(webp) // 2], says="damaged or cut short")


def list_tiff_and_others() -> Iterator[tuple[str, Kind]]:
    for compression in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd"):
        yield f"TIFF {compression}", Kind(save(PICTURE, "TIFF", compression=compression), PICTURE)
    yield "TIFF jpeg", Kind(save(PICTURE, "TIFF", compression="jpeg", quality=98), PICTURE, 5)
    yield "TIFF fax", Kind(save(Image.fromarray(BLACK[..., 0]).convert("1"), "TIFF", compression="group4"), BLACK)
    yield "TIFF with 64-bit offsets", Kind(save(PICTURE, "TIFF", big_tiff=True), PICTURE)
    n, planes = WIDTH * HEIGHT, np.ascontiguousarray(PICTURE.transpose(2, 0, 1)).tobytes()
    shape = {256: (4, 1, WIDTH), 257: (4, 1, HEIGHT), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1),
             273: (4, 1, 8), 278: (4, 1, HEIGHT), 279: (4, 1, n)}  # fmt: skip
    yield "TIFF by hand", Kind(tiff(shape, GREY[..., 0].tobytes()), GREY)
    yield "TIFF white is zero", Kind(tiff(shape | {262: (3, 1, 0)}, (255 - GREY[..., 0]).tobytes()), GREY)
    lists = struct.pack("<3H", 8, 8, 8) + b"\0\0" + struct.pack("<6I", 8, 8 + n, 8 + 2 * n, n, n, n)
    at = 8 + 3 * n
    apart = {258: (3, 3, at), 262: (3, 1, 2), 273: (4, 3, at + 8), 277: (3, 1, 3), 279: (4, 3, at + 20), 284: (3, 1, 2)}
    yield "TIFF of colour planes", Kind(tiff(shape | apart, planes + lists), PICTURE)
    wide = (GREY[..., 0].astype("<u2") * 257).tobytes()
    yield "TIFF bomb", Kind(tiff(shape | {256: (4, 1, 10**6), 257: (4, 1, 10**6)}, wide), says="pixels")
    yield "TIFF beyond its end", Kind(tiff(shape | {273: (4, 1, 10**9)}, wide), says="damaged or cut short")
    rows = np.ascontiguousarray(PICTURE[::-1, :, ::-1]).tobytes()
    yield "BMP by hand", Kind(bmp(24, rows), PICTURE)
    yield "BMP from the top", Kind(bmp(24, np.ascontiguousarray(PICTURE[..., ::-1]).tobytes(), height=-HEIGHT), PICTURE)
    reds = np.dstack([PICTURE[::-1, :, ::-1], np.zeros((HEIGHT, WIDTH), np.uint8)])
    yield "BMP of 32 bits", Kind(bmp(32, reds.tobytes()), PICTURE)
    greys = b"".join(bytes([i, i, i, 0]) for i in range(256))
    run = b"".join(
        b"".join(bytes([18, int(row[left])]) for left in (0, 18)) + b"\0\0" for row in GREY[::-1, :, 0]
    ) + b"\0\1"  # fmt: skip
    yield "BMP of runs", Kind(bmp(8, run, greys, compression=1), GREY)
    yield "BMP of two billion rows", Kind(bmp(24, rows, height=2**31 - 1), says="pixels")
    yield "PPM with a comment", Kind(b"P6 # of\n36 24 # and\n255\n" + PICTURE.tobytes(), PICTURE)
    yield "PPM in words", Kind(b"P3\n36 24 255\n" + b" ".join(b"%d" % v for v in PICTURE.ravel()), PICTURE)
    yield "PGM in words", Kind(b"P2\n36 24 255\n" + b" ".join(b"%d" % v for v in GREY[..., 0].ravel()), GREY)
    yield "PPM of a billion columns", Kind(b"P6\n999999999 999999999\n255\n", says="pixels")
    yield "PPM cut short", Kind(save(PICTURE, "PPM")[:500], says="damaged or cut short")
    yield "JPEG2000 stream", Kind(save(PICTURE, "JPEG2000", no_jp2=True), PICTURE)
    yield "AVIF", Kind(save(PICTURE, "AVIF", quality=100, subsampling="4:4:4"), PICTURE, 5)


def list_all_kinds() -> dict[str, Kind]:
    """All kinds by name."""
    lists = (
        list_colour_modes,
        list_png,
        list_jpeg,
        list_interrupted_copies,
        list_orientations,
        list_frames,
        list_tiff_and_others,
        list_no_images,
    )
    return {name: kind for listed in lists for name, kind in listed()}
