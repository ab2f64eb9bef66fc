"""Finds classes and images that weights were trained on in validation and test sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from fewshot.config import TrainingOptions
from fewshot.datasets import ImageSet
from fewshot.images.listing import list_few
from fewshot.methods import Method
from fewshot.runtime.checkpoint import load_checkpoint, refusing_foreign, save_checkpoint
from fewshot.runtime.counts import format_count
from fewshot.training.run_folder import RunFolder

FORMAT = "fewshot-training-sets-1"
# The share of a held-out set's images that may occur in training. CIFAR-100 contains copies of 6 of CIFAR-FS's 12,000
# test images and of 8 of its 9,600 validation images in training classes: too few to change an accuracy by 0.1 points.
TOLERATED_SHARE = 0.001
ADVICE = "choose others, or set allow_seen_classes: true (--allow_seen_classes), which marks the row in all tables"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Identifies the classes and images that weights were trained on.

    `name`: of the data set and split; `origins`: of the classes, see `ImageSet`; `digests` (n, 8) uint8 of the images.
    """

    name: str
    fingerprint: str
    image_shape: tuple[int, ...]
    origins: tuple[str, ...]
    digests: np.ndarray

    @classmethod
    def of(cls, imageset: ImageSet) -> Self:
        """Identify the classes and images of `imageset`."""
        name = f"{imageset.name}/{imageset.split}" if imageset.split else imageset.name
        origins = tuple(sorted(set(imageset.origins)))
        return cls(name, imageset.fingerprint, imageset.image_shape, origins, imageset.digests)


@dataclass(frozen=True)
class Overlap:
    """The part of a held-out set that weights were trained on.

    `classes`: names of the classes trained on, of `n_classes`. `n_seen_images` of the `n_images` were training images
    (None if all training images have another size, so that they cannot be compared); they are of the classes
    `image_classes`. `unknown`: why it is unknown what the weights were trained on; else empty.
    """

    n_classes: int
    n_images: int
    classes: tuple[str, ...] = ()
    n_seen_images: int | None = 0
    image_classes: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def is_leak(self) -> bool:
        """Whether an accuracy on the held-out set would not be one on unseen classes and images."""
        return bool(self.classes or self.unknown) or (self.n_seen_images or 0) > TOLERATED_SHARE * self.n_images

    @property
    def mark(self) -> str:
        """The mark of a row in a table: `11 of 20 classes seen in training`; empty if nothing leaks."""
        if self.unknown:
            return "classes seen in training: unknown"
        if self.classes:
            return f"{len(self.classes)} of {self.n_classes} classes seen in training"
        return f"{self.n_seen_images:,} of {self.n_images:,} images seen in training" if self.is_leak else ""

    @property
    def header(self) -> dict[str, Any]:
        """The fields of a record header."""
        unknown = bool(self.unknown)
        return {
            "seen_classes": None if unknown else len(self.classes),
            "seen_images": None if unknown else self.n_seen_images,
            "seen_mark": self.mark,
        }

    def describe(self, held_out: object) -> str:
        """Describe the overlap with a set called `held_out` as the end of a sentence."""
        if self.unknown:
            return f"it is unknown whether classes of {held_out} were trained on: {self.unknown}"
        if self.classes:
            count = format_count(len(self.classes), "class", "classes")
            return f"trained on {count} of {held_out}: {list_few(self.classes)}"
        number = f"{self.n_seen_images:,} of the {self.n_images:,} images"
        so_few = "" if self.is_leak else "; so few are tolerated"
        return f"trained on {number} of {held_out}: of {list_few(self.image_classes)}, under other class names{so_few}"


def find_overlap(trained: Sequence[TrainingSet], held_out: ImageSet) -> Overlap:
    """Find the classes of `held_out` whose origin, and the images whose digest, occurs in one of the sets `trained`.

    A rotated copy counts as the image, and its class as the class, that it is a copy of. Images of other sizes are not
    compared.
    """
    origins = {origin for training_set in trained for origin in training_set.origins}
    pairs = zip(held_out.class_names, held_out.origins, strict=True)
    classes = tuple(name for name, origin in pairs if origin in origins)
    comparable = [t for t in trained if tuple(t.image_shape) == held_out.image_shape]
    seen = find_seen_images(comparable, held_out.digests)
    of = np.unique(held_out.labels[: len(seen)][seen])
    return Overlap(
        n_classes=held_out.n_classes,
        n_images=len(seen),
        classes=classes,
        n_seen_images=int(seen.sum()) if comparable or not trained else None,
        image_classes=tuple(held_out.class_names[label] for label in of),
    )


def find_seen_images(trained: Sequence[TrainingSet], digests: np.ndarray) -> np.ndarray:
    """Find which of the images with these digests (n, 8) occur in one of the sets `trained`, (n,) bool."""
    seen = np.zeros(len(digests), bool)
    for training_set in trained:
        seen |= np.isin(_as_numbers(digests), _as_numbers(training_set.digests))
    return seen


def _as_numbers(digests: np.ndarray) -> np.ndarray:
    """Convert digests (n, 8) to whole numbers (n,)."""
    return np.ascontiguousarray(digests).view(np.uint64).ravel()


def write_training_sets(folder: RunFolder, method: Method, train_set: ImageSet, config: TrainingOptions) -> None:
    """Write into a run's folder what its weights are trained on: in this run, before a resume, and in earlier stages.

    Nothing is written if a run that it starts from has no such file: evaluation then loads the data sets instead.
    """
    start = getattr(config, "pretrained_run", None)
    earlier = read_training_sets(RunFolder(start)) if start else []
    if earlier is None:
        return
    learns = config.max_steps or method.needs_base_features
    own = [TrainingSet.of(train_set)] if learns else []
    sets = {s.fingerprint: s for s in (*(read_training_sets(folder) or ()), *earlier, *own)}
    states = [vars(s) | {"digests": torch.from_numpy(s.digests.copy())} for s in sets.values()]
    save_checkpoint(folder.training_sets, {"sets": states}, FORMAT)


def read_training_sets(folder: RunFolder) -> list[TrainingSet] | None:
    """Read what `write_training_sets` wrote into a run's folder; None if it wrote nothing."""
    if not folder.training_sets.is_file():
        return None
    content = load_checkpoint(folder.training_sets, FORMAT)
    with refusing_foreign(folder.training_sets, "training set"):
        return [_restore(state) for state in content["sets"]]


def _restore(state: Mapping[str, Any]) -> TrainingSet:
    digests, origins, shape = state["digests"].numpy(), tuple(state["origins"]), tuple(state["image_shape"])
    if digests.dtype != np.uint8 or digests.shape[1:] != (8,) or not all(isinstance(name, str) for name in origins):
        raise ValueError("digests or origins of another kind")
    return TrainingSet(str(state["name"]), str(state["fingerprint"]), shape, origins, digests)
