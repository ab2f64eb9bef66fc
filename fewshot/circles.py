"""Round things near the middle of a picture, such as coins: find their outline, cut them out, turn them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEARCH_PX = 96  # side of the pictures that are searched
N_ANGLES = 64
RADII = (0.45, 1.0, 34)  # lowest, highest, how many; 1 = half the side
CENTRES = (0.16, 9)  # farthest from the middle along each axis, how many steps
GAP = 0.04  # the outline is where colours differ most this far inside and outside
OUTLINE_ANGLES = (0.15, 0.7)  # of the sorted differences: neither touching neighbours nor single edges decide
STRONG_ENOUGH = 0.72  # of the strongest outline: the outermost such is taken, not the rim of an inner disc
DARKEST = 0.02
GREY = 127.5


class Circles(NamedTuple):
    """Centres and radii, each (n,), in halves of the picture's side; (0, 0) is the middle, x to the right, y down."""

    x: Tensor
    y: Tensor
    radius: Tensor


@torch.no_grad()
def find_circles(images: Tensor) -> Circles:
    """The outline of the round object in each of `images` (n, C, side, side) uint8, on their device.

    For each centre within 0.16 of the middle and radius of 0.45 to 1 the colours on a circle just inside
    are compared with those just outside. Of the radii where that difference peaks, strongly enough, the
    largest is the outline. There always is an answer, also where nothing round is to be seen.
    """
    pixels = F.interpolate(images.float() / 255, (SEARCH_PX, SEARCH_PX), mode="bilinear", antialias=True)
    pixels = F.avg_pool2d(pixels, 3, 1, 1)
    pixels = pixels + pixels.clamp_min(DARKEST).log() / 2  # dark coins have outlines too
    offsets = torch.linspace(-CENTRES[0], CENTRES[0], CENTRES[1], device=images.device)
    y, x = (grid.flatten() for grid in torch.meshgrid(offsets, offsets, indexing="ij"))
    radii = torch.linspace(*RADII[:2], RADII[2], device=images.device)
    strengths, centres = [], []
    low, high = (int(share * N_ANGLES) for share in OUTLINE_ANGLES)
    for radius in radii:
        here = radius.expand_as(x)
        inside, outside = (on_circles(pixels, Circles(x, y, here + side * GAP)) for side in (-1, 1))
        differences = (inside - outside).abs().mean(1).sort(-1).values  # (n, n_centres, N_ANGLES)
        best = differences[..., low:high].mean(-1).max(1)
        strengths.append(best.values)
        centres.append(best.indices)
    strength = torch.stack(strengths, 1)  # (n, n_radii)
    beside = F.pad(strength, (1, 1), value=-1.0)
    peak = (strength >= beside[:, :-2]) & (strength >= beside[:, 2:])
    strong = strength >= STRONG_ENOUGH * strength.max(1, keepdim=True).values
    chosen = torch.where(peak & strong, torch.arange(len(radii), device=images.device), -1).max(1).values
    centre = torch.stack(centres, 1).gather(1, chosen[:, None]).squeeze(1)
    return Circles(x[centre], y[centre], radii[chosen])


def on_circles(pixels: Tensor, circles: Circles, n_angles: int = N_ANGLES) -> Tensor:
    """Colours along circles, the same for each picture: (n, C, n_circles, n_angles) of `pixels` (n, C, side, side)."""
    return _sampled(pixels, *(part[None].expand(len(pixels), -1) for part in circles), n_angles)


def on_rings(pixels: Tensor, circles: Circles, fractions: Tensor, n_angles: int = N_ANGLES) -> Tensor:
    """Colours along rings at `fractions` (k,) of each picture's own circle: (n, C, k, n_angles)."""
    x, y = (part[:, None].expand(-1, len(fractions)) for part in (circles.x, circles.y))
    return _sampled(pixels, x, y, circles.radius[:, None] * fractions, n_angles)


def cut_circles(images: Tensor, circles: Circles | None, side_px: int, turn: float = 0.0) -> Tensor:
    """Each picture's circle, filling a square of `side_px`, turned by `turn` radians: (n, C, side_px, side_px).

    `images` (n, C, side, side) uint8; the result is floating in 0..255. Without `circles` it is the whole
    picture, of which turning shows the inscribed disc. See `disc` for what lies outside.
    """
    n, channels = images.shape[:2]
    if circles is None:
        zero = torch.zeros(n, device=images.device)
        circles = Circles(zero, zero, zero + 1)
    cos, sin = math.cos(turn) * circles.radius, math.sin(turn) * circles.radius
    affine = torch.stack([cos, -sin, circles.x, sin, cos, circles.y], 1).view(n, 2, 3)
    grid = F.affine_grid(affine, [n, channels, side_px, side_px], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def framed(images: Tensor, circles: Circles | None = None) -> Tensor:
    """Each picture's circle (found where none are given), filling the picture, on grey: uint8, as `images`."""
    side_px = images.shape[-1]
    cut = cut_circles(images, circles or find_circles(images), side_px)
    return torch.where(disc(side_px, images.device) > 0, cut, GREY).round().to(torch.uint8)


def disc(side_px: int, device: torch.device | None = None) -> Tensor:
    """1 inside the inscribed disc of a square, 0 outside: (side_px, side_px)."""
    along = (torch.arange(side_px, device=device) + 0.5) * (2 / side_px) - 1
    return (along[:, None].square() + along.square() <= 1).float()


def _sampled(pixels: Tensor, x: Tensor, y: Tensor, radius: Tensor, n_angles: int) -> Tensor:
    angles = torch.arange(n_angles, device=pixels.device) * (2 * math.pi / n_angles)
    grid = torch.stack(
        [x[..., None] + radius[..., None] * angles.cos(), y[..., None] + radius[..., None] * angles.sin()], -1
    )
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
