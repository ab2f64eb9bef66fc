"""`Backbone`, which maps uint8 images to features.

Its body is any `nn.Module` that maps prepared float images (n, in_channels, input_px, input_px) to feature maps
(n, c, h, w), or to features (n, d) if it pools them itself. A body may have these attributes: `pooling` ("flatten" or
"mean") if it returns maps; `mean` and `std` of pixels; `input_px`; and a method `maps(images)` if it pools itself but
has maps too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, FewShotError
from fewshot.registry import Registry

BACKBONES = Registry("backbone")
FAMILIES = Registry("backbone family")  # libraries: "family/name" is one of their models
# By family: raises an error for the name of no model, and for options of which its library cannot make it.
FAMILY_CHECKS: dict[str, Callable[[str, Mapping[str, Any]], None]] = {}
DEFAULT_INPUT_PX, MOST_INPUT_PX = 84, 16_384  # the side of an image; images are not packed larger
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pooling = Literal["flatten", "mean"]


class Backbone(nn.Module):
    """A network that maps images to features: it prepares pixels, runs a body and pools the maps of the body.

    Images are uint8 everywhere outside a backbone. `forward` and `feature_maps` prepare uint8 images themselves;
    floating-point images must be prepared already.

    Args:
        body: maps prepared images (n, C, H, W) to maps (n, c, h, w), or to features if it pools itself.
        in_channels: C.
        input_px: side of the images for which the body is made.
        pooling: how maps become features; None if the body pools itself.
        mean: one number for each channel, of pixels in [0, 1]; None: ImageNet's for three channels, else 0.
        std: like `mean`; None: ImageNet's for three channels, else 1.

    Attributes:
        feature_dim: length of a feature.

    Raises:
        ConfigError: if the body cannot process such images, or if `mean` and `std` do not match the channels.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        body: nn.Module,
        in_channels: int,
        input_px: int,
        pooling: Pooling | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.pooling = body, pooling
        self.in_channels, self.input_px = in_channels, input_px
        three = in_channels == 3
        self.mean = tuple(mean or (IMAGENET_MEAN if three else (0.0,) * in_channels))
        self.std = tuple(std or (IMAGENET_STD if three else (1.0,) * in_channels))
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"std is positive for every channel, got {self.std}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != in_channels:
                raise ConfigError(f"{name} has {len(values)} numbers for {in_channels} channels")
            buffer = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)  # (in_channels, 1, 1)
            self.register_buffer(f"_{name}", buffer, persistent=False)
        self.feature_dim = self._probe()

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (n, feature_dim) of images (n, C, H, W), uint8, or prepared floating-point images."""
        return self._pool(self.body(self._prepare_if_uint8(images)))

    def feature_maps(self, images: Tensor) -> Tensor:
        """Compute maps (n, c, h, w) before pooling; raises `FewShotError` if the body has none."""
        body_maps: Callable[[Tensor], Tensor] = getattr(self.body, "maps", self.body)
        maps = body_maps(self._prepare_if_uint8(images))
        if maps.ndim != 4:
            raise FewShotError(
                f"this backbone has no feature maps: its body pools by itself to {self.feature_dim} features"
            )
        return maps

    def extra_repr(self) -> str:
        """Describe what decides the features besides weights and layers."""
        return f"{self.in_channels} x {self.input_px} px, mean={self.mean}, std={self.std}, pooling={self.pooling}"

    def prepare(self, images: Tensor) -> Tensor:
        """Prepare uint8 images (n, C, H, W) for the body: (n, in_channels, input_px, input_px), float32 or wider.

        Pixels are scaled to [0, 1], resized to a square if the size differs (antialiased, on the device of the images)
        and normalised; grey is repeated to three channels; the result is channels-last if the weights are.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise FewShotError(f"expected uint8 images (n, C, H, W), got {images.dtype} {tuple(images.shape)}")
        if images.shape[1] != self.in_channels and (images.shape[1], self.in_channels) != (1, 3):
            raise FewShotError(
                f"images have {images.shape[1]} channels, this backbone takes {self.in_channels}; "
                "only grey images are repeated to 3 channels"
            )
        pixels = images.to(torch.promote_types(self._mean.dtype, torch.float32)) / 255
        size = (self.input_px, self.input_px)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        prepared = (pixels - self._mean) / self._std  # (n, in_channels, input_px, input_px): repeats grey
        if self._is_channels_last():  # by permutations, since vmap does not support memory formats
            prepared = prepared.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return prepared

    def _prepare_if_uint8(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            return self.prepare(images)
        expected = (self.in_channels, self.input_px, self.input_px)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise FewShotError(f"prepared images must be (n, *{expected}), got {tuple(images.shape)}")
        return images

    def _pool(self, output: Tensor) -> Tensor:
        if output.ndim == 2 and self.pooling is None:
            return output
        if output.ndim != 4 or self.pooling not in ("flatten", "mean"):
            raise ConfigError(
                f"pooling {self.pooling!r} does not fit a body that gives {tuple(output.shape)}: "
                "it is 'flatten' or 'mean' for maps (n, c, h, w) and None for features (n, d)"
            )
        return output.flatten(1) if self.pooling == "flatten" else output.mean((2, 3))

    def _is_channels_last(self) -> bool:
        """Whether the first weight whose layout can be told is channels-last; by strides, which work under vmap too."""
        for weight in self.body.parameters():
            if weight.ndim == 4 and weight.shape[1] > 1 and weight[0, 0].numel() > 1:
                return weight.stride(1) == 1
        return False

    def _probe(self) -> int:
        """Find the number of features by passing one blank image; the modes of the body are restored."""
        weight = next(self.body.parameters(), self._mean)
        shape = (self.in_channels, self.input_px, self.input_px)
        modes = {module: module.training for module in self.body.modules()}
        self.body.eval()
        try:
            with torch.no_grad():
                return self._pool(self.body(self._mean.new_zeros(1, *shape).to(weight))).shape[1]
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"the body cannot take images {shape}: {error}") from error
        finally:
            for module, training in modes.items():
                module.training = training
