"""Find the outline of a round object near the middle of an image, such as a coin; crop to it, and rotate it."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SEARCH_PX = 96  # side to which images are resized for the search
SEARCH_ANGLES = 32
SEARCHED_AT_ONCE = 4  # pictures; the colours along all circles of one take 4 MB
N_ANGLES = 64
RADII = (0.45, 1.0, 34)  # smallest, largest, number; 1 is half the side
CENTRES = (0.16, 7)  # largest distance from the middle along each axis, number of steps
GAP = 0.04  # colours are compared this far inside and outside of a circle
OUTLINE_ANGLES = (
    0.15,
    0.7,
)  # averaged quantiles of the differences: no touching neighbours or single edges
STRONG_ENOUGH = 0.72  # fraction of the strongest outline: the outermost such circle is chosen, not an inner disc
DARKEST = 0.02  # brightness below which logarithms are not taken
FIT_PX = 150  # side to which images are resized to fit the outline
FIT_ANGLES = 128
FIT_REACH = (0.16, 0.08)  # distance from the circle in which the outline is searched, in radii, for each pass
FIT_GAP = 0.05  # colours are compared this far inside and outside, in radii
FIT_STEP = 0.01  # distance of the positions on a ray, in radii
FIT_ROUNDS = 8  # of reweighted least squares
TINY = 1e-6  # keeps the circle if colours do not change anywhere
LEAST_SPREAD = 0.008  # of distances from the fitted circle: rays within it have nearly equal weights
GREY = 127.5


class Circles(NamedTuple):
    """Centres and radii, each (n,), in units of half the side; (0, 0) is the middle, x points right, y down."""

    x: Tensor
    y: Tensor
    radius: Tensor


@torch.no_grad()
def find_circles(images: Tensor, at_once: bool = False, dtype: torch.dtype = torch.float64) -> Circles:
    """Find the outline of the round object in each image; a circle is found even where there is no such object.

    For each centre within 0.16 of the middle and each radius from 0.45 to 1, the colours on a circle just inside are
    compared with those just outside. Of the radii with a sufficiently strong peak of that difference the largest is
    chosen; `fit_circles` then fits the circle to the outline.

    Args:
        images: (n, C, side, side) uint8, on any device.
        at_once: search all images together, which graphs that are traced for any number of images need.
        dtype: of search and fit, which choose the largest of many values: in float32 the rounding of a library orders
            nearly equal ones, in float64 all libraries choose the same.

    Returns:
        Centres and radii, float32.
    """
    circles = _search(_make_outlines(images, SEARCH_PX, dtype), at_once)
    return fit_circles(images, circles, dtype)


@torch.no_grad()
def fit_circles(images: Tensor, circles: Circles, dtype: torch.dtype = torch.float64) -> Circles:
    """Fit `circles` to the outline of the round object near them; `images` and `dtype` as for `find_circles`.

    On each of 128 rays the position where colours change most is chosen, with a preference for those near the circle. A
    circle is fitted to these positions by least squares, to first order in the shift of the centre, reweighted so that
    outlying rays have little weight (Geman and McClure, Statistical methods for tomographic image reconstruction,
    1987). There are two such passes.
    """
    pixels = _make_outlines(images, FIT_PX, dtype)
    circles = Circles(*(part.to(dtype) for part in circles))
    angles = _make_angles(FIT_ANGLES, pixels)
    design = torch.stack([torch.ones_like(angles), angles.cos(), angles.sin()], 1)  # radius, x, y
    gap = round(FIT_GAP / FIT_STEP)
    for reach in FIT_REACH:
        steps = round(reach / FIT_STEP) + gap
        fractions = 1 + FIT_STEP * np.arange(-steps, steps + 1, dtype=_numpy_type(pixels.dtype))
        near = 1 - ((fractions[gap:-gap] - 1) / (1.6 * reach)) ** 2
        fractions, near = (torch.from_numpy(values).to(pixels.device) for values in (fractions, near))
        rays = sample_on_rings(pixels, circles, fractions, FIT_ANGLES)
        change = (rays[:, :, 2 * gap :] - rays[:, :, : -2 * gap]).abs().mean(1)  # (n, n_fractions - 2 gap, n_angles)
        chosen = ((change + TINY) * near[:, None]).argmax(1)
        places = fractions[gap:-gap][chosen] * circles.radius[:, None]  # (n, n_angles)
        circle = _fit_least_squares(design, places)
        circles = Circles(circles.x + circle[:, 1], circles.y + circle[:, 2], circle[:, 0])
    return Circles(*(part.float() for part in circles))


def _fit_least_squares(design: Tensor, places: Tensor) -> Tensor:
    """Fit robust coefficients (n, k) of the columns of `design` (n_angles, k) to `places` (n, n_angles)."""
    weights = torch.ones_like(places)
    for _ in range(FIT_ROUNDS):
        weighted = weights[..., None] * design
        right = (weighted * places[..., None]).sum(1)
        coefficients = torch.linalg.solve_ex(design.mT @ weighted, right[..., None]).result.squeeze(-1)  # no check
        residuals = places - coefficients @ design.mT
        spread = 1.5 * residuals.abs().median(1, keepdim=True).values.clamp_min(LEAST_SPREAD)
        weights = (1 + (residuals / spread).square()).square().reciprocal()
    return coefficients


def _make_range(start: float, end: float, steps: int, pixels: Tensor) -> Tensor:
    """Make `steps` numbers from `start` to `end`, on the device and of the type of `pixels`."""
    if pixels.dtype == torch.float64:
        return torch.from_numpy(np.linspace(start, end, steps)).to(pixels.device)
    return torch.linspace(start, end, steps, device=pixels.device, dtype=pixels.dtype)


def _make_angles(count: int, pixels: Tensor) -> Tensor:
    """Make `count` angles around a circle, on the device and of the type of `pixels`."""
    angles = np.arange(count, dtype=_numpy_type(pixels.dtype)) * (2 * math.pi / count)
    return torch.from_numpy(angles).to(pixels.device)


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    """The type of constants that numpy makes, since graphs that are traced hold factors and steps in float32."""
    return np.dtype(str(dtype).removeprefix("torch."))


def _make_outlines(images: Tensor, side_px: int, dtype: torch.dtype) -> Tensor:
    """Resize and smooth images, and add half their logarithm, so that dark objects have outlines too."""
    pixels = images.to(dtype) / 255
    if dtype == torch.float64:  # as below, by products of matrices, which ONNX runtimes compute in float64 too
        along = torch.from_numpy(make_resizing(pixels.shape[-1], side_px)).to(images.device)
        pixels = along @ pixels @ along.mT
    else:
        pixels = F.interpolate(pixels, (side_px, side_px), mode="bilinear", antialias=True)
        pixels = F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    return pixels + pixels.clamp_min(DARKEST).log() / 2


def make_resizing(old_px: int, new_px: int) -> np.ndarray:
    """Make the matrix (new_px, old_px) that resizes a column of pixels with antialiasing and smooths it over 3."""
    scale = old_px / new_px
    centres = (np.arange(new_px)[:, None] + 0.5) * scale
    resizing = np.maximum(1 - np.abs(np.arange(old_px) + 0.5 - centres) / max(scale, 1.0), 0.0)
    smoothing = np.tri(new_px, k=1) - np.tri(new_px, k=-2)
    return (smoothing / smoothing.sum(1, keepdims=True)) @ (resizing / resizing.sum(1, keepdims=True))


def _search(pixels: Tensor, at_once: bool) -> Circles:
    """Search a grid of centres and radii for the circle with the strongest outline in `pixels`."""
    parts = [_search_part(part) for part in ([pixels] if at_once else pixels.split(SEARCHED_AT_ONCE))]
    return Circles(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _search_part(pixels: Tensor) -> Circles:
    """As `_search`, in few large steps, so that a traced graph has few nodes."""
    device = pixels.device
    offsets = _make_range(-CENTRES[0], CENTRES[0], CENTRES[1], pixels)
    y, x = (grid.flatten() for grid in torch.meshgrid(offsets, offsets, indexing="ij"))
    radii = _make_range(*RADII, pixels)
    low, high = (int(share * SEARCH_ANGLES) for share in OUTLINE_ANGLES)
    centres = (x.repeat(len(radii)), y.repeat(len(radii)), radii.repeat_interleave(x.shape[0]))
    inside, outside = (
        sample_on_circles(pixels, Circles(*centres[:2], centres[2] + side * GAP), SEARCH_ANGLES) for side in (-1, 1)
    )
    differences = (inside - outside).abs().mean(1).sort(-1).values  # (n, n_radii * n_centres, SEARCH_ANGLES)
    strengths, centre = differences[..., low:high].mean(-1).unflatten(1, (len(radii), -1)).max(2)  # (n, n_radii)
    beside = F.pad(strengths, (1, 1), value=-1.0)
    peak = (strengths >= beside[:, :-2]) & (strengths >= beside[:, 2:])
    strong = strengths >= STRONG_ENOUGH * strengths.max(1, keepdim=True).values
    chosen = torch.where(peak & strong, torch.arange(len(radii), device=device), -1).max(1).values
    centre = centre.gather(1, chosen[:, None]).squeeze(1)
    return Circles(x[centre], y[centre], radii[chosen])


def sample_on_circles(pixels: Tensor, circles: Circles, n_angles: int = N_ANGLES) -> Tensor:
    """Sample `pixels` (n, C, side, side) along circles that all images share: (n, C, n_circles, n_angles)."""
    return _sample(pixels, *(part[None].expand(pixels.shape[0], -1) for part in circles), n_angles=n_angles)


def sample_on_rings(pixels: Tensor, circles: Circles, fractions: Tensor, n_angles: int = N_ANGLES) -> Tensor:
    """Sample pixels along rings at `fractions` (k,) of the radius of each image's circle: (n, C, k, n_angles)."""
    x, y = (part[:, None].expand(-1, len(fractions)) for part in (circles.x, circles.y))
    return _sample(pixels, x, y, circles.radius[:, None] * fractions, n_angles)


def cut_circles(images: Tensor, circles: Circles | None, side_px: int, turn: float = 0.0) -> Tensor:
    """Crop each image to its circle, resized to `side_px` and rotated by `turn` radians: (n, C, side_px, side_px).

    `images` (n, C, side, side) uint8; the result is floating-point in 0..255. Without `circles` the whole image is
    used, of which a rotation shows the inscribed disc. `disc` masks what is outside.
    """
    n, channels = images.shape[:2]
    if circles is None:
        zero = torch.zeros(n, device=images.device)
        circles = Circles(zero, zero, zero + 1)
    cos, sin = math.cos(turn) * circles.radius, math.sin(turn) * circles.radius
    affine = torch.stack([cos, -sin, circles.x, sin, cos, circles.y], 1).view(n, 2, 3)
    grid = F.affine_grid(affine, [n, channels, side_px, side_px], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def crop_circle(images: Tensor, circles: Circles | None = None) -> Tensor:
    """Crop each image to its circle (found if not given), on grey: uint8, with the shape of `images`.

    It is found in float32, by which the data sets that results were measured on were cut.
    """
    side_px = images.shape[-1]
    cut = cut_circles(images, circles or find_circles(images, dtype=torch.float32), side_px)
    return torch.where(disc(side_px, images.device) > 0, cut, GREY).round().to(torch.uint8)


def disc(side_px: int, device: torch.device | None = None) -> Tensor:
    """Make a mask (side_px, side_px): 1 inside the inscribed disc of a square, 0 outside."""
    along = (torch.arange(side_px, device=device) + 0.5) * (2 / side_px) - 1
    return (along[:, None].square() + along.square() <= 1).float()


def _sample(pixels: Tensor, x: Tensor, y: Tensor, radius: Tensor, n_angles: int) -> Tensor:
    angles = _make_angles(n_angles, pixels)
    grid = torch.stack(
        [x[..., None] + radius[..., None] * angles.cos(), y[..., None] + radius[..., None] * angles.sin()], -1
    )
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
