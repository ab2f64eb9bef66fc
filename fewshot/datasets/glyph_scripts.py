"""The printed characters of `glyphs`: scripts, splits, and a filter against similar shapes.

A character becomes a class if the fonts contain it, if it is a letter or digit (no mark, modifier, control character or
composition of another character), and if its shape differs from that of every class before it; see `find_distinct`.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fewshot.errors import DataError

CATEGORIES = {"Lu", "Ll", "Lo", "Nd"}  # letters and digits; not `Lm`, small raised copies of letters
FONT_PX = 128  # size at which characters are first drawn
INK_LEVEL = 64  # greater grey levels count as ink when a character is placed
SHAPE_PX = 32  # side of the squares in which shapes are compared
SHAPE_BLUR_PX = 1.2  # strokes that are shifted by less than about this count as equal
MAX_CORRELATION = 0.89  # of two shapes; the later of two more similar ones is dropped
MAX_ASPECT_RATIO = 2.0  # shapes whose aspect ratios differ by a larger factor are never similar …
LONG_ASPECT_RATIO = 2.5  # … but all larger ratios count as equal, since bars differ only in thickness


class Glyph(NamedTuple):
    """A printed character, cropped to its ink, and the ends of the ink in each row, points (n, 2) of x and y."""

    image: Image.Image
    outline: np.ndarray


class Script(NamedTuple):
    """A script, its split, and its code points as inclusive (first, last) ranges."""

    name: str
    split: str
    ranges: tuple[tuple[int, int], ...]


# Of two similar characters the earlier one in this table is kept: first the best-known letters, then the scripts of
# validation and test, last the large scripts, which can lose a few.
SCRIPTS = (
    Script("Latin", "train", ((0x41, 0x5A), (0x61, 0x7A))),
    Script("Digits", "train", ((0x30, 0x39),)),
    Script("Greek", "test", ((0x370, 0x3E1), (0x3F0, 0x3FF))),
    Script("Coptic", "test", ((0x3E2, 0x3EF),)),
    Script("Hebrew", "test", ((0x5D0, 0x5EA),)),
    Script("Tifinagh", "test", ((0x2D30, 0x2D7F),)),
    Script("Lao", "test", ((0xE80, 0xEFF),)),
    Script("Armenian", "val", ((0x530, 0x58F),)),
    Script("Nko", "val", ((0x7C0, 0x7FF),)),
    Script("Old_Italic", "val", ((0x10300, 0x1032F),)),
    Script("Lisu", "val", ((0xA4D0, 0xA4FF),)),
    Script("Georgian", "val", ((0x10A0, 0x10FF), (0x2D00, 0x2D2F))),
    Script("Cyrillic", "train", ((0x400, 0x52F), (0xA640, 0xA69F))),
    Script("Latin", "train", ((0xC0, 0x2AF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF))),
    Script("Arabic", "train", ((0x620, 0x6FF), (0x750, 0x77F))),
    Script("Canadian_Aboriginal", "train", ((0x1401, 0x167F),)),
)
SCRIPT_OF = {code: s for s in SCRIPTS for first, last in s.ranges for code in range(first, last + 1)}
CODES = tuple(SCRIPT_OF)  # all code points, in the order of the table


def name_class(code: int) -> str:
    """Name the class of a code point, for instance `Latin/U+0041 LATIN CAPITAL LETTER A`."""
    return f"{SCRIPT_OF[code].name}/U+{code:04X} {unicodedata.name(chr(code))}"


@cache
def read_font_codes(path: Path) -> frozenset[int]:
    """Read the code points that a font file contains."""
    from fontTools.ttLib import TTFont  # a dependency of matplotlib

    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap())


@cache
def _load_font(path: Path) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(path, FONT_PX, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"glyphs: the font {path} cannot be read ({error})") from error


def crop_character(code: int, font: Path) -> Image.Image | None:
    """Draw a character at `FONT_PX`, ink 255 on 0, cropped to its ink; None if it has no ink."""
    face = _load_font(font)
    left, top, right, bottom = map(int, face.getbbox(chr(code)))
    image = Image.new("L", (max(right - left, 0) + 4, max(bottom - top, 0) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), chr(code), fill=255, font=face)
    box = image.getbbox()
    return image.crop(box) if box else None


@lru_cache(maxsize=256)  # the writers of a character share its fonts
def print_character(code: int, font: Path, stand_in: Path, side: int) -> Glyph:
    """Draw a character in `font`, or in `stand_in` if `font` lacks it, with a longest side of `side` pixels."""
    image = crop_character(code, font) if code in read_font_codes(font) else None
    image = image or crop_character(code, stand_in)
    if image is None:
        raise DataError(f"glyphs: neither {font.name} nor {stand_in.name} draws U+{code:04X}")
    scale = side / max(image.size)
    image = image.resize([max(1, round(scale * length)) for length in image.size], Image.Resampling.LANCZOS)
    ink = np.asarray(image) > INK_LEVEL
    rows = np.flatnonzero(ink.any(axis=1))
    first, last = ink[rows].argmax(axis=1), image.width - ink[rows, ::-1].argmax(axis=1)
    return Glyph(image, np.concatenate([np.stack([first, rows], 1), np.stack([last, rows + 1], 1)]))


def find_distinct(font: Path) -> list[int]:
    """Find the code points that become classes, in the order of the table (takes seconds).

    Each character of `font` is rendered twice as a blurred square of `SHAPE_PX`: once with its bounding box
    stretched to the square, once with its ink centred and stretched to a fixed spread, which an added bar or serif
    hardly changes. A character is dropped if either square correlates by more than `MAX_CORRELATION` with that of a
    kept character of any script, and if the aspect ratios of both differ by a factor below `MAX_ASPECT_RATIO` (or
    both are long). Squares are stretched because writers vary width and height.
    """
    held = read_font_codes(font)
    codes, views, log_aspects = [], [], []
    for code in CODES:
        simple = unicodedata.category(chr(code)) in CATEGORIES and not unicodedata.decomposition(chr(code))
        image = crop_character(code, font) if simple and code in held else None
        if image:
            codes.append(code)
            views.append([_crop_view(image, (0, 0, *image.size)), _crop_view(image, _measure_spread(image))])
            log_aspects.append(np.log(image.width / image.height))
    longest = np.log(LONG_ASPECT_RATIO)
    return _keep_first_of_each_shape(codes, np.array(views), np.clip(log_aspects, -longest, longest))


def _crop_view(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """Render `box` of `image` as a blurred square: a vector of zero mean and unit length."""
    sixth = (box[2] - box[0]) / 6, (box[3] - box[1]) / 6  # room for the blur
    wide = box[0] - sixth[0], box[1] - sixth[1], box[2] + sixth[0], box[3] + sixth[1]
    large = image.transform((3 * SHAPE_PX, 3 * SHAPE_PX), Image.Transform.EXTENT, wide, Image.Resampling.BILINEAR)
    blurred = large.reduce(3).filter(ImageFilter.GaussianBlur(SHAPE_BLUR_PX))
    pixels = np.asarray(blurred, np.float64).ravel()
    pixels -= pixels.mean()
    return pixels / np.linalg.norm(pixels)


def _measure_spread(image: Image.Image) -> tuple[float, float, float, float]:
    """Compute the box of two standard deviations of the ink around its centre, in x and in y."""
    ink = np.asarray(image, np.float64)
    edges = []
    for axis in (0, 1):
        weights = ink.sum(axis=axis) / ink.sum()
        places = np.arange(len(weights)) + 0.5
        centre = weights @ places
        reach = 2 * max(np.sqrt(weights @ (places - centre) ** 2), 1)
        edges.append((centre - reach, centre + reach))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _keep_first_of_each_shape(codes: Sequence[int], views: np.ndarray, log_aspects: np.ndarray) -> list[int]:
    """Keep the codes that are not similar to an earlier kept one; `views` (n_codes, 2, pixels)."""
    views = views.transpose(1, 0, 2)  # (2, n_codes, pixels)
    correlation = (views @ views.transpose(0, 2, 1)).max(axis=0)  # (n_codes, n_codes)
    alike = correlation > MAX_CORRELATION
    alike &= np.abs(log_aspects[:, None] - log_aspects) < np.log(MAX_ASPECT_RATIO)
    kept: list[int] = []
    for row in range(len(codes)):
        if not alike[row, kept].any():
            kept.append(row)
    return [codes[row] for row in kept]
