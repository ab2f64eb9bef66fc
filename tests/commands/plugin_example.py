"""A method, a backbone and a data set of my own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fewshot import BACKBONES, DATASETS, METHODS, ImageSet, Method


@METHODS.register("nearest-mean")
class NearestMean(Method):
    """The nearest class mean, by the L1 distance.

    Args:
        sharpness: factor of the logits.
    """

    def __init__(self, backbone: nn.Module | None, sharpness: float = 1.0) -> None:
        super().__init__(backbone)
        self.sharpness = sharpness

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        member = (
            support_labels[..., None] == torch.arange(n_way, device=query.device)
        ).float()  # (B, n_support, n_way)
        counts = member.sum(1)[..., None]  # (B, n_way, 1)
        means = member.mT @ support / counts.clamp_min(1)  # (B, n_way, D)
        logits = -self.sharpness * torch.cdist(query, means, p=1)
        return logits.masked_fill(counts.mT == 0, -torch.inf)


@BACKBONES.register("tiny")
class Tiny(nn.Module):
    """One convolution and a spatial mean."""

    pooling = "mean"

    def __init__(self, in_channels: int, input_px: int, n_filters: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, n_filters, 5, stride=2), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@DATASETS.register("stripes")
def stripes(root: Path, split: str, n_images: int = 24) -> ImageSet:
    """Stripes of a direction and a width for each class, with noise.

    Args:
        n_images: images of each class.
    """
    rng = np.random.default_rng(["train", "val", "test"].index(split))
    y, x = np.mgrid[:16, :16]
    images, labels = [], []
    for label in range(12):
        angle, width = rng.uniform(0, np.pi), rng.uniform(0.4, 1.6)
        for _ in range(n_images):
            wave = np.sin(width * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
            images.append(np.clip(127 + 80 * wave + rng.normal(0, 20, wave.shape), 0, 255))
            labels.append(label)
    names = [f"{split}-{label}" for label in range(12)]
    return ImageSet(np.array(images, np.uint8)[:, None], labels, names, name="stripes", split=split)
