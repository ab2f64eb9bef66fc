"""Augmentation of batches of uint8 images, on the device of the images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.registry import options_of
from fewshot.runtime.transfer import send

CPU_NUMBERS = 1 << 18  # pixel values per chunk on a CPU: larger chunks leave its cache and take 2 to 3 times as long


@dataclass(frozen=True)
class Augmentation:
    """Changes each image at random, uniformly within these limits; the defaults change nothing.

    Rotation, shear, scale, shift, crop and flip are combined into one affine map, so each image is resampled only once
    (bilinearly). Pixels outside the image repeat its border.

    Args:
        rotation_degrees: rotate by up to this angle in either direction.
        shear_degrees: shear by up to this angle in either direction.
        scale: enlarge or shrink each axis by a factor of up to 1 + this.
        shift: shift along each axis by up to this fraction of the side.
        min_crop_area: crop at random to at least this fraction of the area, then resize (1: no crop).
        flip: mirror horizontally with probability one half.
        colour: change brightness, contrast and saturation each by a factor of 1 ± this.
    """

    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    min_crop_area: float = 1.0
    flip: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_crop_area <= 1:
            raise ConfigError(f"augmentation: min_crop_area lies in (0, 1], got {self.min_crop_area}")
        for name in ("rotation_degrees", "shear_degrees", "scale", "shift", "colour"):
            if getattr(self, name) < 0:
                raise ConfigError(f"augmentation: {name} is not negative, got {getattr(self, name)}")

    @property
    def moves(self) -> bool:
        """Whether any limit allows a geometric change."""
        limits = (self.rotation_degrees, self.shear_degrees, self.scale, self.shift, 1 - self.min_crop_area, self.flip)
        return any(limits)

    @property
    def changes(self) -> bool:
        """Whether any limit allows a change."""
        return self.moves or bool(self.colour)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment copies of `images` (n, C, H, W) uint8; the result depends on the images and the generator state."""
        return self.apply(images, self.draw(len(images), generator))

    @staticmethod
    def draw(n_images: int, generator: torch.Generator) -> Tensor:
        """Draw the random numbers of `n_images`: (n_images, 13), uniform in [−1, 1], on the generator's device."""
        return torch.rand(n_images, 13, generator=generator, device=generator.device) * 2 - 1

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change copies of `images` (n, C, H, W) uint8 by `draws` (n, 13).

        An image depends on its own draws alone, so images with separately drawn numbers can share one call.
        """
        if not self.changes:
            return images
        draws = send(draws, images.device)
        at_once = CPU_NUMBERS // images.shape[1:].numel() + 1 if images.device.type == "cpu" else len(images)
        parts = zip(images.split(at_once), draws.split(at_once), strict=True)
        return torch.cat([self._change(*part) for part in parts])

    def _change(self, images: Tensor, u: Tensor) -> Tensor:
        pixels = images.float()
        if self.moves:
            grid = F.affine_grid(self._make_affine(u[:, :10]), list(images.shape), align_corners=False)
            pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        if self.colour:
            pixels = self._recolour(pixels, 1 + self.colour * u[:, 10:])
        return pixels.round().clamp(0, 255).to(torch.uint8)

    def _make_affine(self, u: Tensor) -> Tensor:
        """Compute affine maps (n, 2, 3) from output to input coordinates; `u` (n, 10) is uniform in [−1, 1]."""
        angle = u[:, 0] * math.radians(self.rotation_degrees)
        slant = torch.tan(u[:, 1] * math.radians(self.shear_degrees))
        stretch = (1 + self.scale) ** u[:, 2:4]  # (n, 2)
        side = torch.sqrt(1 - (1 - self.min_crop_area) * (u[:, 4] + 1) / 2)[:, None]  # of the crop, (n, 1)
        centre = u[:, 5:7] * (2 * self.shift) + u[:, 7:9] * (1 - side)  # coordinates run from −1 to 1: a side is 2
        mirror = torch.where(u[:, 9] < 0, -1.0, 1.0) if self.flip else torch.ones_like(angle)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
        shear = torch.eye(2, device=u.device).repeat(len(u), 1, 1)
        shear[:, 0, 1] = slant
        zoom = torch.diag_embed(side * stretch)
        zoom[:, 0, 0] *= mirror
        return torch.cat([turn @ shear @ zoom, centre[..., None]], 2)

    @staticmethod
    def _recolour(pixels: Tensor, factor: Tensor) -> Tensor:
        """Scale brightness, contrast and saturation by `factor` (n, 3), in the order of torchvision's ColorJitter."""
        brightness, contrast, saturation = factor[:, :, None, None, None].unbind(1)
        pixels = (pixels * brightness).clamp(0, 255)
        mean = pixels.mean((1, 2, 3), keepdim=True)
        pixels = (mean + (pixels - mean) * contrast).clamp(0, 255)
        grey = pixels.mean(1, keepdim=True)
        return grey + (pixels - grey) * saturation


def make_augmentation(limits: dict[str, float | bool]) -> Augmentation:
    """Create an augmentation; raises `UnknownNameError` or `ConfigError` for an unknown or wrong limit."""
    options_of(Augmentation, "augmentation").check(limits)
    return Augmentation(**limits)
