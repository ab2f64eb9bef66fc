"""Augmentation of image batches: uint8 in, uint8 out, on whatever device the images lie."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.registry import options_of
from fewshot.runtime.transfer import send

CPU_NUMBERS = 1 << 18  # pixel values changed at once on a CPU: more leave its cache (84 px: 2 to 3 times as long)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each image, drawn uniformly within these limits; the defaults change nothing.

    All geometry is one affine map, sampled bilinearly once; pixels beyond the border repeat it.

    Args:
        rotation_degrees: turn by up to this angle, either way.
        shear_degrees: slant by up to this angle, either way.
        scale: enlarge or shrink each axis by a factor of up to 1 + this.
        shift: move along each axis by up to this fraction of the side.
        min_crop_area: random resized crop: keep at least this fraction of the area (1 keeps all).
        flip: mirror left and right, every other image.
        colour: brightness, contrast and saturation each by a factor of 1 ± this.
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
        """Whether any image would change its geometry."""
        limits = (self.rotation_degrees, self.shear_degrees, self.scale, self.shift, 1 - self.min_crop_area, self.flip)
        return any(limits)

    @property
    def changes(self) -> bool:
        """Whether any image would change at all."""
        return self.moves or bool(self.colour)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented copies of `images` (n, C, H, W) uint8; the same generator state, the same result."""
        return self.apply(images, self.draw(len(images), generator))

    @staticmethod
    def draw(n_images: int, generator: torch.Generator) -> Tensor:
        """What chance decides for each of `n_images`: (n_images, 13), uniform in [−1, 1], on the generator's device."""
        return torch.rand(n_images, 13, generator=generator, device=generator.device) * 2 - 1

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Copies of `images` (n, C, H, W) uint8 changed as `draws` (n, 13) say; each image's depends on its own alone.

        So images that were drawn for apart may be changed in one call.
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
        """Maps (n, 2, 3) from output to input coordinates; `u` (n, 10) uniform in [−1, 1]."""
        angle = u[:, 0] * math.radians(self.rotation_degrees)
        slant = torch.tan(u[:, 1] * math.radians(self.shear_degrees))
        stretch = (1 + self.scale) ** u[:, 2:4]  # (n, 2)
        side = torch.sqrt(1 - (1 - self.min_crop_area) * (u[:, 4] + 1) / 2)[:, None]  # of the crop, (n, 1)
        centre = u[:, 5:7] * (2 * self.shift) + u[:, 7:9] * (1 - side)  # 2 = the whole side
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
        """Brightness, contrast, saturation by `factor` (n, 3), in the order of torchvision's ColorJitter."""
        brightness, contrast, saturation = factor[:, :, None, None, None].unbind(1)
        pixels = (pixels * brightness).clamp(0, 255)
        mean = pixels.mean((1, 2, 3), keepdim=True)
        pixels = (mean + (pixels - mean) * contrast).clamp(0, 255)
        grey = pixels.mean(1, keepdim=True)
        return grey + (pixels - grey) * saturation


def make_augmentation(limits: dict[str, float | bool]) -> Augmentation:
    """The augmentation with these limits; raises for an unknown one and for one of the wrong type."""
    options_of(Augmentation, "augmentation").check(limits)
    return Augmentation(**limits)
