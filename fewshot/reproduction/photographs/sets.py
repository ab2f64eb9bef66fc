"""The data sets that stand in for a person's photographs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones import create_backbone
from fewshot.datasets import ImageSet, load_dataset
from fewshot.evaluation.embed import embed
from fewshot.methods import Method, create_method

INPUT_PX = 160
# (data set, split, options, images of a class at most); thresholds and rules were chosen on validation classes.
SETS = {
    "euro coins": ("euro_coins", "test", {"size_px": 150}, 60),
    "GTSRB": ("gtsrb", "test", {"every": 30}, 30),
    "world coins": ("world_coins", "test", {}, 20),
    "CIFAR-FS": ("cifar_fs", "test", {}, 30),
}


CHOSEN_ON = {"GTSRB": 21}  # so many of the first classes were there when thresholds of `check` were chosen


@dataclass(frozen=True, eq=False)
class EmbeddedSet:
    """Some images of a data set: `rows` of it, with `labels`, and `groups` (each image its own without)."""

    name: str
    images: ImageSet
    rows: np.ndarray
    method: Method

    @property
    def labels(self) -> np.ndarray:
        """The class of each image, (n,)."""
        return self.images.labels[self.rows]

    @property
    def groups(self) -> np.ndarray:
        """The group of each image, (n,)."""
        given = self.images.groups
        return np.arange(len(self.rows)) if given is None else np.asarray(given)[self.rows]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data set."""
        return self.images.fingerprint

    @cached_property
    def pixels(self) -> Tensor:
        """The images, (n, 3, side, side) uint8."""
        return self.images.gather(torch.from_numpy(self.rows))

    @cached_property
    def features(self) -> Tensor:
        """The features of the images, (n, D): embedded once, when a measurement asks for them."""
        return embed(self.method, self.images, torch.from_numpy(self.rows), "auto").values.float()

    def select(self, rows: np.ndarray) -> Self:
        """Select `rows`, numbers within this set or a mask; features that were computed are not computed again."""
        part = type(self)(self.name, self.images, self.rows[rows], self.method)
        if "features" in vars(self):
            vars(part)["features"] = self.features[rows]
        return part


def load_set(title: str, data_root: str | None = None) -> EmbeddedSet:
    """Load up to so many images of each class of a set of `SETS`, evenly spread; EfficientNet-Lite0 embeds them."""
    name, split, options, most = SETS[title]
    imageset = load_dataset(name, split, data_root, **options)
    rows = np.concatenate([_spread(np.flatnonzero(imageset.labels == c), most) for c in range(imageset.n_classes)])
    backbone = create_backbone("efficientnet-lite0", imageset.image_shape[0], INPUT_PX, pretrained=True)
    method = create_method("baseline", backbone, solver="logistic", c=10.0, normalize=True).eval()
    return EmbeddedSet(title, imageset, rows, method)


def draw_folder(data: EmbeddedSet, n_way: int, n_shot: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows and labels of `n_shot` images of each of `n_way` classes, each of its own group within a class."""
    classes = [c for c in np.unique(data.labels) if len(np.unique(data.groups[data.labels == c])) >= n_shot]
    rows: list[int] = []
    for c in rng.permutation(classes)[:n_way]:
        mine = rng.permutation(np.flatnonzero(data.labels == c))
        first = np.sort(np.unique(data.groups[mine], return_index=True)[1])[:n_shot]
        rows += mine[first].tolist()
    return np.array(rows), np.repeat(np.arange(len(rows) // n_shot), n_shot)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
