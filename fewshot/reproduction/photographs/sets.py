"""The data sets that stand in for a person's photographs, embedded once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones import create_backbone
from fewshot.datasets import load_dataset
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


@dataclass(frozen=True)
class EmbeddedSet:
    """Some images of a data set: `pixels`, `features` (n, D), `labels`, and `groups` (each image its own without)."""

    name: str
    pixels: Tensor
    features: Tensor
    labels: np.ndarray
    groups: np.ndarray
    fingerprint: str
    method: Method


def load_set(title: str, data_root: str | None = None) -> EmbeddedSet:
    """Load a set of `SETS` and embed up to so many images of each class, evenly spread, by EfficientNet-Lite0."""
    name, split, options, most = SETS[title]
    imageset = load_dataset(name, split, data_root, **options)
    rows = np.concatenate([_spread(np.flatnonzero(imageset.labels == c), most) for c in range(imageset.n_classes)])
    backbone = create_backbone("efficientnet-lite0", imageset.image_shape[0], INPUT_PX, pretrained=True)
    method = create_method("baseline", backbone, solver="logistic", c=10.0, normalize=True).eval()
    features = embed(method, imageset, torch.from_numpy(rows), "auto").values.float()
    groups = np.arange(len(rows)) if imageset.groups is None else np.asarray(imageset.groups)[rows]
    pixels = imageset.gather(torch.from_numpy(rows))
    return EmbeddedSet(title, pixels, features, imageset.labels[rows], groups, imageset.fingerprint, method)


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
