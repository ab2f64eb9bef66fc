"""`Predictor`: a classifier that `fewshot export` wrote, asked without torch. It needs numpy, onnxruntime and pillow.

From the folder that was exported: `python FOLDER/predictor.py photo.jpg`, or `from predictor import Predictor`.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.photographs.serving.asking import Answers, run
from fewshot.photographs.serving.changing import append_class, drop_class, learn_anew
from fewshot.photographs.serving.folder import ENCODER, read_facts, read_head, write_head
from fewshot.photographs.serving.heads import log_softmax
from fewshot.photographs.serving.learning import Learned, list_sets
from fewshot.photographs.serving.pictures import (
    Picture,
    check_all_read,
    check_list,
    convert_groups,
    decode_picture,
    hash_pixels,
    open_encoder,
)


class Predictor:
    """Classifies photographs, and learns further classes from a few of them.

    An image is the path of a file, the bytes of one, a Pillow image, or an array (height, width[, 3 or 4]) uint8.
    Threads may share a predictor: a call answers by what was learned when it began. Only `save` writes.

    Args:
        folder: as `fewshot export` wrote it.
        n_threads: of one image's arithmetic; None: as many as the machine has cores.

    Attributes:
        facts: what `labels.json` says of images, method and options; `method`: the head.
        unknown: the answer for an image of no known class.

    Raises:
        CheckpointError: for a folder that is none of a predictor.
    """

    def __init__(self, folder: str | Path, n_threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.facts = read_facts(self.folder)
        self.unknown = self.facts["unknown"]
        self.method, self._learned = read_head(self.folder, self.facts)
        self._encoder = open_encoder(self.folder / ENCODER, n_threads)
        self._changing = Lock()

    @property
    def classes(self) -> list[Any]:
        """The names of the classes, sorted; none before `fit` where a method was exported without any."""
        return [] if self._learned is None else self._learned.classes.tolist()

    @property
    def has_groups(self) -> bool:
        """Whether classes were learned with groups, which `add_class` then needs."""
        return self._learned is not None and self._learned.support.groups is not None

    def predict(self, images: Sequence[Picture]) -> list[Any]:
        """Predict the likeliest class of each image, or `unknown`.

        Args:
            images: n images.

        Returns:
            n labels.

        Raises:
            DataError: naming every image that cannot be read.
        """
        return self.answer(self.encode(self._read_all(images))).labels

    def predict_proba(self, images: Sequence[Picture]) -> np.ndarray:
        """Predict how likely each class is.

        Args:
            images: n images.

        Returns:
            Probabilities (n, n_classes), columns in the order of `classes`.
        """
        return self.answer(self.encode(self._read_all(images))).probabilities

    def predict_set(self, images: Sequence[Picture], coverage: float = 0.95) -> list[list[Any]]:
        """Predict the classes that each image may be of, likeliest first; see `FewShotClassifier.predict_set`.

        Args:
            images: n images.
            coverage: share of these sets that are to hold the right class.

        Returns:
            n lists of labels.

        Raises:
            DataError: for a coverage that the support cannot promise; names the highest possible.
        """
        return self.answer(self.encode(self._read_all(images)), coverage).sets or []

    def read(self, images: Sequence[Picture]) -> tuple[np.ndarray, dict[int, str]]:
        """Decode images; those that cannot be read do not stop the others.

        Args:
            images: n images.

        Returns:
            Pixels (n, channels, size_px, size_px) uint8, blank for bad images; and a sentence on each of these.
        """
        size, bad = self.facts["image"], {}
        pixels = np.zeros((len(images), size["channels"], size["size_px"], size["size_px"]), np.uint8)
        for number, image in enumerate(images):
            try:
                pixels[number] = decode_picture(image, number, size["channels"], size["size_px"], size["resize"])
            except DataError as error:
                bad[number] = str(error)
        return pixels, bad

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Compute what the head classifies, image by image: an image's features do not depend on others.

        Args:
            pixels: (n, channels, size_px, size_px) uint8, as `read` gives them.

        Returns:
            Features (n, D) float32.
        """
        return np.concatenate([self._encoder.run(None, {"images": image[None]})[0] for image in pixels])

    def answer(self, features: np.ndarray, coverage: float | None = None) -> Answers:
        """Answer about images by their features.

        Args:
            features: (n, D), as `encode` gives them.
            coverage: of prediction sets; None: there are none.

        Returns:
            Labels, probabilities, refusals and sets; a `DataError` where no class was learned yet.
        """
        learned, method = self.ask_learned(), self.method
        probabilities = np.exp(log_softmax(method.logits(learned.arrays, features) / learned.temperature))
        refuses = learned.threshold is not None
        known = learned.score_known(method, features) if refuses else None
        accepted = np.ones(len(features), bool) if known is None else known >= learned.threshold
        best = learned.classes[probabilities.argmax(1)].tolist()
        labels = [label if taken else self.unknown for label, taken in zip(best, accepted, strict=True)]
        sets = None if coverage is None else list_sets(learned, probabilities, coverage)
        return Answers(labels, probabilities, accepted, known, sets)

    def fit(self, images: Sequence[Picture], labels: Sequence[Any], groups: Sequence[Any] | None = None) -> Self:
        """Learn classes in the place of those that are there.

        Args:
            images: n images.
            labels: their classes (n,), words or numbers.
            groups: (n,) what images belong together, such as photographs of one object; None: each is its own.

        Returns:
            The predictor itself.

        Raises:
            DataError: for fewer than two classes, for images that cannot be read, and where the head cannot be fitted.
        """
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images need as many labels, got {len(labels)}")
        units = convert_groups(groups, len(images))
        features, digests = self._read_for_learning(images)
        with self._changing:
            self._learned = learn_anew(self.method, features, labels, units, digests)
        return self

    def add_class(self, name: Any, images: Sequence[Picture], groups: Sequence[Any] | None = None) -> Self:
        """Add a class; temperature and threshold are fitted again, images of other classes are not encoded again.

        Args:
            name: its label, of the type of the others.
            images: a few images of it.
            groups: as for `fit`; given exactly where the classifier was fitted with groups.

        Returns:
            The predictor itself.

        Raises:
            DataError: for a class that exists already, and for images that cannot be used.
        """
        self.ask_learned()
        if str(name) == str(self.unknown):
            raise DataError(f"a class cannot be called {name!r}: that is the answer for an image of no known class")
        units = convert_groups(groups, len(images))
        features, digests = self._read_for_learning(images)
        with self._changing:
            old = self.ask_learned()
            self._learned = append_class(self.method, old, name, features, units, digests)
        return self

    def remove_class(self, name: Any) -> Self:
        """Remove a class.

        Args:
            name: its label.

        Returns:
            The predictor itself.

        Raises:
            DataError: for an unknown class, and where fewer than two would remain.
        """
        self._check_can_learn()
        with self._changing:
            self._learned = drop_class(self.method, self.ask_learned(), name)
        return self

    def save(self, folder: str | Path | None = None) -> None:
        """Write what was learned, atomically: a killed process leaves each file old or new.

        Args:
            folder: another folder of the same encoder; None: its own.
        """
        write_head(self.folder if folder is None else Path(folder), self.facts, self.method, self._learned)

    def _read_all(self, images: Sequence[Picture]) -> np.ndarray:
        check_list(images)
        pixels, bad = self.read(images)
        check_all_read(bad, len(images))
        return pixels

    def _read_for_learning(self, images: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
        """Read and encode images to learn from; returns features and hashes."""
        self._check_can_learn()
        pixels = self._read_all(images)
        return self.encode(pixels), hash_pixels(pixels)

    def ask_learned(self) -> Learned:
        """Return what was learned; a `DataError` where there are no classes yet."""
        if self._learned is None:
            raise DataError("this predictor has no classes yet: fit(images, labels) first, or --support FOLDER")
        return self._learned

    def _check_can_learn(self) -> None:
        if self.facts["fixed"]:
            raise DataError(self.facts["fixed"])


if __name__ == "__main__":
    raise SystemExit(run(Predictor, Path(__file__).parent))
