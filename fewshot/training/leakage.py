"""Whether classes or images that weights were trained on come back where they are validated or tested."""

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
from fewshot.training.run_folder import RunFolder

FORMAT = "fewshot-training-sets-1"
# Of a held-out set's images. CIFAR-100 itself holds 6 of CIFAR-FS's 12,000 test images and 8 of its 9,600 validation
# images a second time, under the names of training classes: too few to move an accuracy by a tenth of a point.
TOLERATED_SHARE = 0.001
ADVICE = "take others, or go on with allow_seen_classes: true (--allow_seen_classes), which marks the row in all tables"


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What identifies classes and images that weights were trained on.

    `name`: of the data set and split; `origins`: of the classes, see `ImageSet`; `digests` (n, 8) uint8 of the images.
    """

    name: str
    fingerprint: str
    image_shape: tuple[int, ...]
    origins: tuple[str, ...]
    digests: np.ndarray

    @classmethod
    def of(cls, imageset: ImageSet) -> Self:
        """What identifies `imageset`."""
        name = f"{imageset.name}/{imageset.split}" if imageset.split else imageset.name
        origins = tuple(sorted(set(imageset.origins)))
        return cls(name, imageset.fingerprint, imageset.image_shape, origins, imageset.digests)


@dataclass(frozen=True)
class Overlap:
    """What of a held-out set was trained on.

    `classes`: names of such classes, of `n_classes`; `n_seen_images` of `n_images` are training images too (None where
    all training images have another size, so that they cannot be compared), of the classes `image_classes`.
    `unknown`: why nobody can tell what was trained on; else empty.
    """

    n_classes: int
    n_images: int
    classes: tuple[str, ...] = ()
    n_seen_images: int | None = 0
    image_classes: tuple[str, ...] = ()
    unknown: str = ""

    @property
    def is_leak(self) -> bool:
        """Whether a number on the held-out set is not one on unseen classes and images."""
        return bool(self.classes or self.unknown) or (self.n_seen_images or 0) > TOLERATED_SHARE * self.n_images

    @property
    def mark(self) -> str:
        """What a row of a table says of it: `11 of 20 classes seen in training`; empty where nothing leaks."""
        if self.unknown:
            return "classes seen in training: unknown"
        if self.classes:
            return f"{len(self.classes)} of {self.n_classes} classes seen in training"
        return f"{self.n_seen_images:,} of {self.n_images:,} images seen in training" if self.is_leak else ""

    @property
    def header(self) -> dict[str, Any]:
        """The same for the header of records."""
        unknown = bool(self.unknown)
        return {
            "seen_classes": None if unknown else len(self.classes),
            "seen_images": None if unknown else self.n_seen_images,
            "seen_mark": self.mark,
        }

    def describe(self, held_out: object) -> str:
        """What was trained on, of a set that is called `held_out`."""
        if self.unknown:
            return f"nobody can tell whether classes of {held_out} were trained on: {self.unknown}"
        if self.classes:
            return f"trained on {len(self.classes)} classes of {held_out}: {list_few(self.classes)}"
        number = f"{self.n_seen_images:,} of the {self.n_images:,} images"
        so_few = "" if self.is_leak else "; so few are tolerated"
        return f"trained on {number} of {held_out}: of {list_few(self.image_classes)}, under other class names{so_few}"


def find_overlap(trained: Sequence[TrainingSet], held_out: ImageSet) -> Overlap:
    """The classes of `held_out` that have an origin, and its images that have a digest, in one of the sets `trained`.

    Turned copies count as the image and the class that they are copies of. Images of other sizes are not compared.
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
    """Which of the images with these digests (n, 8) are in one of the sets `trained`, (n,) bool."""
    seen = np.zeros(len(digests), bool)
    for training_set in trained:
        seen |= np.isin(_as_numbers(digests), _as_numbers(training_set.digests))
    return seen


def _as_numbers(digests: np.ndarray) -> np.ndarray:
    """Digests (n, 8) as whole numbers (n,)."""
    return np.ascontiguousarray(digests).view(np.uint64).ravel()


def write_training_sets(folder: RunFolder, method: Method, train_set: ImageSet, config: TrainingOptions) -> None:
    """Keep in a run's folder what its weights are trained on: now, before it was resumed, and where it starts from.

    Nothing is written where a run that it starts from is older than this file: evaluation then loads the sets.
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
    """What `write_training_sets` wrote into a run's folder; None where it wrote nothing."""
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
