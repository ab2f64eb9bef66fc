"""Measurements of a photograph, which are kept instead of its pixels: a few kilobytes."""

from dataclasses import dataclass

import numpy as np

from fewshot.images.listing import ImageFile
from fewshot.images.similarity import extract_details, hash_perceptually, measure_sharpness, shrink_grey
from fewshot.photographs.inspection.reading import Photograph

TAIL = 2.0  # percent of the pixels, which may be black letters or highlights


@dataclass(frozen=True, eq=False)
class Measurements:
    """Size and digests (see `Photograph`), and perceptual hash, details and sharpness (see `images.similarity`).

    `mirrored_hash`: of the picture with left and right exchanged. `darkest`, `brightest`: grey values, 0 to 255, that
    2% of the pixels lie below and above.
    """

    width_px: int
    height_px: int
    content: bytes
    picture: bytes
    hash: np.ndarray  # (64,) bool
    mirrored_hash: np.ndarray  # (64,) bool
    details: np.ndarray  # (1024,) float32
    sharpness: float
    darkest: float
    brightest: float

    @property
    def aspect(self) -> float:
        return max(self.width_px, self.height_px) / min(self.width_px, self.height_px)


@dataclass(frozen=True, eq=False)
class MeasuredPhotograph:
    """A photograph that could be read, and its measurements; `name` is its path relative to the folder."""

    name: str
    file: ImageFile
    measured: Measurements


def measure_photograph(photograph: Photograph) -> Measurements:
    """Compute everything that the checks of a folder need to know of a photograph."""
    small = shrink_grey(photograph.grey)
    darkest, brightest = np.percentile(np.asarray(photograph.grey), (TAIL, 100 - TAIL))
    return Measurements(
        photograph.width_px,
        photograph.height_px,
        photograph.content,
        photograph.picture,
        hash_perceptually(small),
        hash_perceptually(small[:, ::-1]),
        extract_details(small),
        measure_sharpness(photograph.grey),
        float(darkest),
        float(brightest),
    )
