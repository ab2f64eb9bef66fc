"""`FewShotClassifier`: a classifier of a user's own images, by scikit-learn's conventions."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fewshot.config.classifier import AnswerOptions
from fewshot.errors import ConfigError, DataError, LeakageError
from fewshot.estimator import storage
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import learn
from fewshot.estimator.independence import name_copies
from fewshot.estimator.labels import as_label, as_labels, check_unknown
from fewshot.estimator.reading import as_list
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support, as_groups
from fewshot.experiments.starting import training_sets
from fewshot.images.listing import list_few
from fewshot.training.leakage import find_seen_images

logger = logging.getLogger(__name__)


class FewShotClassifier(ClassifierMixin, BaseEstimator, AnswerOptions):
    """Learns classes from a few images each, and predicts the classes of others.

    `X` below are paths, Pillow images, arrays or tensors, see `Reader`, or features. Everything that is no image is
    named in one `DataError`, and nothing of the classifier changes. Several threads may ask one fitted classifier.

    Args:
        backbone: a name that `create_backbone` knows; None: X are features (n, d), not images.
        method: a name that `create_method` knows; None: "baseline" with its logistic solver on features of unit
            length, c = 10. Methods that adapt weights ("finetune") keep the images themselves.
        method_options: as for `create_method`.
        backbone_options: as for `create_backbone`.
        pretrained: with the backbone's published weights.
        weights: a file of weights in their place.
        run_dir: a finished run instead, whose backbone and, unless `method` says otherwise, method are taken.
        size_px: side that images are brought to; None: the backbone's own; a quarter more where a circle is found,
            which then fills that size.
        resize: how, see `decode_image`.
        rotation_invariant: mean of the features of 8 turned views (or of so many; for `aligned` 24, over which it lays
            images over each other).
        find_circle: a round object, such as a coin, is found and cut out first.
        views: further options of `Viewed`.
        device: None takes an accelerator if there is one.
        precision: as for `evaluate`.
        seed: of everything random.
        calibrate: fit a temperature to images held out by group.
        false_accept_rate: where an image of no known class should be answered `unknown`, the share of such images
            that may be taken for a known one.
        unknown: that answer.

    Attributes:
        classes_: the classes (n_classes,), sorted.
        n_features_in_: of features.
        temperature_, calibrated_: what logits are divided by, and whether held-out images gave it.
        rejection_: the threshold below which an image is of no known class, or None.
        copies_: the names of pictures that are there several times, also saved again or resized: they count as one
            group, and join the groups that they lie in.
    """

    def fit(self, X: Any, y: Sequence[Any] | None = None, groups: Sequence[Any] | None = None) -> Self:
        """Learn the classes of the images `X` (n) from their labels `y` (n).

        `groups` (n): images that share a photograph, specimen or video share a group; held-out
        estimates then never see both sides of one. Copies share a group in any case. Raises `DataError`
        for fewer than two classes, and where one picture has two labels.
        """
        if self.false_accept_rate is not None and not 0 <= self.false_accept_rate < 1:
            raise ConfigError(f"false_accept_rate is a share between 0 and 1, got {self.false_accept_rate}")
        if y is None:
            raise DataError("this estimator requires y to be passed, but the target y is None: give a label for each")
        images = self._list(X, fitting=True)
        labels = as_labels(y)
        _check_lengths(len(images), labels=labels, groups=groups)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"a classifier needs two classes or more; got {len(classes)} class: {classes.tolist()}")
        encoder = Encoder.create(self)
        encoder.check_n_classes(len(classes))
        parts = encoder.encode(encoder.reader().parts(images))
        support = Support.gather(parts, numbers, as_groups(groups))
        _warn_of_training_images(self.run_dir, support.digests)
        return self.learn(encoder, classes, support)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, n_classes), columns in the order of `classes_`: softmax of logits / `temperature_`."""
        return self.probabilities(self.logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each image, (n,); `unknown` where a `false_accept_rate` is set and it is none."""
        check_is_fitted(self)
        queries = self._encode(X)
        answers = self.classes_[self.fitted_.logits(queries).argmax(1).numpy()]
        if self.rejection_ is None:
            return answers
        answers = answers if answers.dtype.kind in "UO" else answers.astype(object)  # 7 stays a number
        return np.where(self.rejection_.accept(self.fitted_, self.support_, queries), answers, self.unknown)

    def logits(self, X: Any) -> torch.Tensor:
        """Logits (n, n_classes) of the method, before temperature and softmax."""
        check_is_fitted(self)
        return self.fitted_.logits(self._encode(X))

    def add_class(self, name: Any, images: Any, groups: Sequence[Any] | None = None) -> Self:
        """One more class; the images of the others are not looked at again."""
        check_is_fitted(self)
        name = as_label(name, self.classes_)
        if name in self.classes_:
            raise DataError(f"there is a class {name!r} already; remove_class({name!r}) first")
        images = self._list(images)
        _check_lengths(len(images), groups=groups)
        if not len(images):
            raise DataError(f"class {name!r} needs an image at least")
        if (groups is None) != (self.support_.groups is None):
            raise DataError("groups are given for all classes or for none: fit was called " +
                            ("without" if self.support_.groups is None else "with") + " groups")  # fmt: skip
        names = np.append(self.classes_.astype(object), name)
        classes = np.unique(np.array(list(names), dtype=np.result_type(self.classes_, np.asarray([name]))))
        place = {label: number for number, label in enumerate(classes.tolist())}
        moved = np.array([place[label] for label in self.classes_.tolist()])
        self.encoder_.check_n_classes(len(classes))
        labels = np.full(len(images), place[name])
        parts = self.encoder_.encode(self.inputs_.parts(images))
        new = Support.gather(parts, labels, as_groups(groups))
        if not getattr(self, "from_file_", False):  # no path is opened because a file names it
            _warn_of_training_images(self.run_dir, new.digests)
        return self.learn(self.encoder_, classes, self.support_.relabel(moved).join(new))

    def remove_class(self, name: Any) -> Self:
        """Forget a class; two must remain."""
        check_is_fitted(self)
        if name not in self.classes_:
            raise DataError(f"there is no class {name!r}; the classes are {self.classes_.tolist()}")
        if len(self.classes_) == 2:
            raise DataError(
                f"a classifier needs two classes: {name!r} is one of the last two, {self.classes_.tolist()}"
            )
        gone = int(np.flatnonzero(self.classes_ == name)[0])
        moved = np.arange(len(self.classes_)) - (np.arange(len(self.classes_)) > gone)
        support = self.support_.rows(self.support_.labels != gone).relabel(moved).check()
        return self.learn(self.encoder_, np.delete(self.classes_, gone), support)

    def save(self, path: str | Path) -> None:
        """Write the classifier to one file, weights included: safetensors with a JSON header, no code."""
        check_is_fitted(self)
        storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Self:
        """The classifier that `save` wrote. Raises `CheckpointError` for a foreign, cut-short or newer file."""
        return storage.load(cls, Path(path), device)

    def predict_held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (m, n_classes) of support images by a classifier that saw nothing of their group, and which
        images these are, (m,); images whose class has no other group are not among them.
        """
        check_is_fitted(self)
        logits, rows = self.fitted_.held_out
        return self.probabilities(logits), rows

    def learn(self, encoder: Encoder, classes: np.ndarray, support: Support) -> Self:
        """Take up a support set: fit the method, the temperature and the threshold; all or nothing changes."""
        fitted, temperature = learn(encoder, support, len(classes), self.calibrate)
        rejection = None
        if self.false_accept_rate is not None:
            check_unknown(self.unknown, classes)
            if not encoder.method.uses_features:
                message = f"{self.method} has no features that tell what an image is like: false_accept_rate needs them"
                raise ConfigError(message)
            rejection = Rejection.learn(encoder, support, self.false_accept_rate)
        self.encoder_, self.inputs_ = encoder, encoder.reader()
        self.classes_, self.support_, self.fitted_ = classes, support, fitted
        self.temperature_, self.calibrated_ = (1.0, False) if temperature is None else (temperature, True)
        self.rejection_ = rejection
        self.copies_, known = name_copies(support.names, support.copies), getattr(self, "copies_", [])
        if self.copies_ and self.copies_ != known:
            sets = list_few([" = ".join(names) for names in self.copies_])
            logger.warning("the same or nearly the same pictures share a group, lest they test each other: %s", sets)
        return self

    def _encode(self, X: Any) -> torch.Tensor:
        """What the method classifies of `X`, (n, …), on the CPU."""
        images = self._list(X)
        if not len(images):
            raise DataError("there is no image to classify: the list is empty")
        return torch.cat([part.values for part in self.encoder_.encode(self.inputs_.parts(images))])

    def _list(self, X: Any, fitting: bool = False) -> Sequence[Any]:
        """Images one by one; features checked by scikit-learn's rules."""
        if self.backbone is not None or self.run_dir is not None:
            return as_list(X)
        return validate_data(self, X, reset=fitting, dtype=np.float64)

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """softmax(logits / `temperature_`), (n, n_classes)."""
        return torch.softmax(logits.double() / self.temperature_, 1).numpy()


def _warn_of_training_images(run_dir: str | Path | None, digests: np.ndarray | None) -> None:
    """Say so where images with these digests (n, 8) are among those that the run's network was trained on."""
    if run_dir is None or digests is None:
        return
    try:
        trained = training_sets(run_dir)
    except LeakageError:  # the run is gone
        return
    n_seen = int(find_seen_images(trained, digests).sum())
    if n_seen:
        logger.warning(
            "%d of %d images were trained on by %s: what is estimated from them does not hold for new images",
            n_seen, len(digests), run_dir,
        )  # fmt: skip


def _check_lengths(n_images: int, **given: Any) -> None:
    for what, values in given.items():
        if values is not None and len(values) != n_images:
            raise DataError(f"{len(values)} {what} for {n_images} images")
