"""Glyphs: several hundred characters of many scripts, each drawn once by each of 20 simulated writers.

A small Omniglot that needs no download. The characters come from the fonts that matplotlib contains (DejaVu and STIX).
Each writer has fixed random habits (font, slant, pen), and every drawing varies at random. Classes are characters,
groups are writers, and splits are by script, so the scripts of val and test are unseen in training. `glyph_scripts`
chooses the characters.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageFilter

from fewshot.datasets.glyph_scripts import CODES, SCRIPT_OF, Glyph, find_distinct, name_class, print_character
from fewshot.datasets.loading import DATASETS, SPLITS, check_split
from fewshot.errors import DataError
from fewshot.images.imageset import ImageSet
from fewshot.images.store import open_store, stamp_file
from fewshot.runtime.seeding import numpy_generator

GLYPHS_VERSION = 1  # raise it when a change of the code changes pixels or classes
SEED = 0  # of all writers and drawings
IMAGE_PX = 28  # the lengths below are for this size; they scale with the size of the images
MIN_IMAGE_PX, MAX_IMAGE_PX = 14, 112
SUPERSAMPLING = 3  # drawings are this much larger at first, then averaged
MARGIN_PX = 2.5  # free of ink before wobble and pen are applied, which use some of it
N_CELLS = 4  # per side; the wobble is interpolated between (N_CELLS + 1)**2 knots
MAX_WOBBLE_PX = 1.8
PEN_BLUR_PX = 0.5  # rounds corners like a pen
PEN_THRESHOLDS = (48, 140)  # range of the threshold on blurred strokes: limits how broad and fine a pen is
PEN_CONTRAST = 4  # leaves one grey pixel at an edge, before averaging

GREYS = np.arange(256)

# Writer w uses font w mod 8, and for characters that it lacks the DejaVu Sans of the same weight.
REGULAR, BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"
FONTS = (
    (REGULAR, REGULAR),
    ("DejaVuSerif.ttf", REGULAR),
    (BOLD, BOLD),
    ("DejaVuSansMono.ttf", REGULAR),
    ("STIXGeneral.ttf", REGULAR),
    ("DejaVuSerif-Bold.ttf", BOLD),
    ("STIXGeneralItalic.ttf", REGULAR),
    ("DejaVuSansMono-Bold.ttf", BOLD),
)


class Writer(NamedTuple):
    """The habits of one writer; `angle` in radians, `wobble` (knots, knots, 2) in pixels."""

    font: str
    stand_in: str
    angle: float
    shear: float
    aspect: float
    size_px: float
    shift_px: np.ndarray
    ink: float
    wobble: np.ndarray


@DATASETS.register("glyphs")
def glyphs(root: Path, split: str, n_writers: int = 20, image_px: int = 28) -> ImageSet:
    """Characters drawn by `n_writers` writers at `image_px` x `image_px`, one channel, ink 255 on 0.

    Args:
        root: not used: the drawings are made once (in seconds) and kept in the cache.
        split: "train", "val", "test" or "all".
        n_writers: number of writers, each of whom draws every character once; a writer does not depend on the number.
        image_px: side of the drawings, in pixels.
    """
    check_split("glyphs", split, (*SPLITS, "all"))
    if n_writers < 1:
        raise DataError(f"glyphs: n_writers must be at least 1, got {n_writers}")
    if not MIN_IMAGE_PX <= image_px <= MAX_IMAGE_PX:
        raise DataError(f"glyphs: image_px must be {MIN_IMAGE_PX} to {MAX_IMAGE_PX}, got {image_px}")
    fonts = _find_font_folder()
    files = sorted({fonts / name for pair in FONTS for name in pair})
    for file in files:
        if not file.is_file():
            raise DataError(f"glyphs: the font {file} is missing; reinstall matplotlib, which ships it")
    key = [GLYPHS_VERSION, PIL.__version__, [stamp_file(file) for file in files]]
    codes = _list_classes(key, fonts / REGULAR)
    writers = [make_writer(number) for number in range(n_writers)]
    store = open_store(
        "glyphs",
        [*key, codes, n_writers, image_px],
        codes,
        lambda code: np.stack([draw(code, number, w, fonts, image_px)[None] for number, w in enumerate(writers)]),
        (1, image_px, image_px),
        images_per_block=n_writers,
    )
    everything = ImageSet(
        store.images,
        np.repeat(np.arange(len(codes)), n_writers),
        [name_class(code) for code in codes],
        groups=np.tile(np.arange(n_writers), len(codes)),
        name="glyphs",
        digests=store.digests,
    )
    chosen = [name_class(code) for code in codes if split in ("all", SCRIPT_OF[code].split)]
    return everything.select(chosen, split)


def make_writer(number: int) -> Writer:
    """Draw the habits of writer `number`, which are the same in every call."""
    rng = numpy_generator(SEED, "glyphs", "writer", number)
    font, stand_in = FONTS[number % len(FONTS)]
    return Writer(
        font=font,
        stand_in=stand_in,
        angle=np.radians(rng.normal(0, 6)),
        shear=rng.uniform(-0.15, 0.35),  # more people lean to the right
        aspect=np.exp(rng.normal(0, 0.16)),
        size_px=rng.uniform(16, 22),
        shift_px=rng.normal(0, 0.8, 2),
        ink=rng.uniform(0.55, 0.95) if stand_in == BOLD else rng.uniform(1.0, 1.5),
        wobble=rng.normal(0, 0.5, (N_CELLS + 1, N_CELLS + 1, 2)),
    )


def draw(code: int, number: int, habits: Writer, fonts: Path, image_px: int) -> np.ndarray:
    """Draw character `code` as writer `number` with these habits, uint8 (image_px, image_px).

    `fonts` is the folder of the font files.
    """
    rng = numpy_generator(SEED, "glyphs", "drawing", code, number)
    angle, shear = habits.angle + np.radians(rng.normal(0, 5)), habits.shear + rng.normal(0, 0.06)
    aspect = habits.aspect * np.exp(rng.normal(0, 0.08))
    size = (habits.size_px + rng.normal(0, 0.8)) / IMAGE_PX
    shift = (habits.shift_px + rng.normal(0, 0.8, 2)) / IMAGE_PX
    wobble = habits.wobble + rng.normal(0, 0.65, habits.wobble.shape)
    wobble = np.clip(wobble, -MAX_WOBBLE_PX, MAX_WOBBLE_PX) / IMAGE_PX
    cos, sin = np.cos(angle), np.sin(angle)
    turn, stretch = np.array([[cos, -sin], [sin, cos]]), np.diag([aspect**0.5, aspect**-0.5])
    side = SUPERSAMPLING * image_px
    glyph = print_character(code, fonts / habits.font, fonts / habits.stand_in, side)
    warped = _warp(glyph, turn @ [[1, -shear], [0, 1]] @ stretch, size, shift, wobble, side)
    inked = _redraw(warped, habits.ink * np.exp(rng.normal(0, 0.08)), PEN_BLUR_PX / IMAGE_PX * side)
    return np.asarray(inked.reduce(SUPERSAMPLING))


def _warp(
    glyph: Glyph, linear: np.ndarray, size: float, shift: np.ndarray, wobble: np.ndarray, side: int
) -> Image.Image:
    """Transform `glyph` by a linear map, a placement and a wobble, onto a square of `side` pixels.

    `linear` (2, 2) acts on (x, y). `size`, the longest side, `shift` (2,) and `wobble` (knots, knots, 2) are fractions
    of the square. The shift is shortened if it would move ink into the margin, so no stroke is cut off.
    """
    moved = glyph.outline @ linear.T
    low, high = moved.min(axis=0), moved.max(axis=0)
    room = 1 - 2 * MARGIN_PX / IMAGE_PX
    scale = min(size, room) / (high - low).max()
    free = np.maximum(room - scale * (high - low), 0) / 2
    centre = 0.5 + np.clip(shift, -free, free)
    knots = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, N_CELLS + 1)]), axis=-1)  # (knots, knots, 2): x, y
    source = ((knots + wobble - centre) / scale + (low + high) / 2) @ np.linalg.inv(linear).T
    edges = np.round(knots * side).astype(int)
    mesh = []
    for row in range(N_CELLS):
        for col in range(N_CELLS):
            box = (*edges[row, col].tolist(), *edges[row + 1, col + 1].tolist())
            corners = source[row, col], source[row + 1, col], source[row + 1, col + 1], source[row, col + 1]
            mesh.append((box, np.concatenate(corners).tolist()))
    return glyph.image.transform((side, side), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _redraw(image: Image.Image, ink: float, blur_px: float) -> Image.Image:
    """Blur and threshold the image, which rounds corners; the threshold is chosen for `ink` times as much ink."""
    blurred = image.filter(ImageFilter.GaussianBlur(blur_px))
    n_inked = ink * np.dot(image.histogram(), GREYS) / 255  # wanted number of ink pixels
    n_at_least = np.cumsum(blurred.histogram()[::-1])[::-1]  # (256,): pixels of this grey or more
    threshold = np.clip(np.count_nonzero(n_at_least >= n_inked), *PEN_THRESHOLDS)
    return blurred.point(np.clip((GREYS - threshold) * PEN_CONTRAST + 128, 0, 255).tolist())


def _list_classes(key: list, font: Path) -> list[int]:
    """List the code points of `find_distinct` split after split, so that the pixels of a split are one slice.

    The cache holds them as a mask over `CODES`, so that they are computed once.
    """

    def mask(file: Path) -> np.ndarray:
        return np.isin(CODES, find_distinct(file)).astype(np.uint8)

    store = open_store("glyph-classes", [*key, CODES], [font], mask, (1, 1, len(CODES)))
    chosen = [code for code, keep in zip(CODES, store.images.ravel(), strict=True) if keep]
    return sorted(chosen, key=lambda code: SPLITS.index(SCRIPT_OF[code].split))


def _find_font_folder() -> Path:
    import matplotlib  # not at the top: importing fewshot would import it

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
