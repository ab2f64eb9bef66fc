"""Methods that work from features: the protocol `FeatureHead`, and encoding images."""

from typing import Protocol

from torch import Tensor, nn


class FeatureHead(Protocol):
    """What a method has that works from features, if the features of an image do not depend on its episode.

    `Method.forward` then encodes the images and calls `head`. The evaluator, which has computed the features before,
    calls `head` alone.
    """

    def encode(self, images: Tensor) -> Tensor:
        """Compute features (*, D) or maps (*, c, h, w), float32 or wider, of images (*, C, H, W)."""

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Compute the logits of queries from features.

        Args:
            support: features (B, n_support, D), or maps (B, n_support, c, h, w).
            support_labels: (B, n_support), 0..n_way-1, or -1 for padding.
            query: features (B, n_query, D), or maps.
            n_way: number of classes.

        Returns:
            Logits (B, n_query, n_way); those of classes without support are -inf.
        """


def encode_images(backbone: nn.Module, images: Tensor) -> Tensor:
    """Compute features (*, D), float32 or wider, of images (*, C, H, W) by a backbone that takes (n, C, H, W)."""
    return widen(backbone(images.flatten(0, -4))).unflatten(0, images.shape[:-3])


def widen(values: Tensor) -> Tensor:
    """Convert `values` to float32 if autocast has made them narrower."""
    return values.float() if values.dtype.itemsize < 4 else values
