"""Cues beside the features of a circle's views: its colours and its size."""

import torch
from torch import Tensor

from fewshot.images.circles import Circles, sample_on_rings

RINGS = (0.1, 0.95, 12)  # innermost, outermost, how many; 1 = the circle's radius
AROUND = (1.12, 1.2)  # rings of the background
DARKEST = 0.02
COLOUR_UNIT = 0.2  # about the standard deviation of log colours: 0.21, 0.22, 0.31 in the three parts, 600 world coins
RADIUS_UNIT = 0.1  # of the log radius: about 10%


@torch.no_grad()
def compute_cues(images: Tensor, circles: Circles, colour: float, radius: float) -> list[Tensor]:
    """Compute the cues of images (n, C, side, side) uint8, each (n, k), with their weights; see `Viewed`."""
    cues = []
    if colour:
        fractions = torch.cat([torch.linspace(*RINGS), torch.tensor(AROUND)]).to(images.device)
        rings = sample_on_rings(images.float() / 255, circles, fractions).median(-1).values.clamp_min(DARKEST).log()
        object_, around = rings[..., : RINGS[2]], rings[..., RINGS[2] :].mean(-1, keepdim=True)
        parts = (
            object_ - object_.mean((1, 2), keepdim=True),
            _compute_hue(object_),
            _compute_hue(object_ - around),
        )
        cues += [colour * part.flatten(1) / (COLOUR_UNIT * part[0].numel() ** 0.5) for part in parts]
    if radius:
        cues.append(radius * circles.radius.log()[:, None] / RADIUS_UNIT)
    return cues


def count_colours(in_channels: int) -> int:
    """How many numbers the colour cue has."""
    return (3 * in_channels - 2) * RINGS[2]


def _compute_hue(colours: Tensor) -> Tensor:
    """Subtract green (the second channel) from the other log colours: (n, C - 1, k) from (n, C, k)."""
    others = [c for c in range(colours.shape[1]) if c != 1]
    return colours[:, others] - colours[:, 1:2] if colours.shape[1] > 1 else colours[:, :0]
