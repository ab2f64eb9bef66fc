"""`FewShotClassifier`: a classifier of a user's own images, by scikit-learn's conventions."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from fewshot.errors import ConfigError, DataError
from fewshot.estimator import storage
from fewshot.estimator.confidence import fit_temperature, held_out_logits
from fewshot.estimator.encoder import Inputs
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support
from fewshot.images.decode import Resize
from fewshot.images.listing import few
from fewshot.runtime.precision import Precision

logger = logging.getLogger(__name__)


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Learns classes from a few images each, and predicts the classes of others.

    `backbone`: a name that `create_backbone` knows; None: X are features (n, d), not images.
    `pretrained`: with its published weights; `weights`: with those of a file; `run_dir`: a finished run
    instead, whose backbone and, unless `method` says otherwise, method are taken.
    `method`, `method_options`: as for `create_method`; None: "baseline" with its logistic solver on features
    of unit length, c = 10. Methods that adapt weights ("finetune") keep the images themselves.
    `size_px`: side that images are brought to by the rule `resize` (None: the backbone's own; a quarter more where
    a circle is found, which then fills that size).
    `rotation_invariant`: mean of the features of 8 turned views (or of so many; for `aligned` 24, over which it lays
    images over each other); `find_circle`: a round object, such as a coin, is found and cut out first; `views`: further
    options of `Viewed`.
    `calibrate`: fit a temperature to images held out by group. `false_accept_rate`: where an image of no
    known class should be answered `unknown`, the share of such images that may be taken for a known one.
    `device`: None takes an accelerator if there is one. `precision`: as for `evaluate`.

    After `fit`: `classes_`; `n_features_in_` for features; `temperature_`, `calibrated_` (whether held-out images
    gave it); `rejection_`; `copies_`, the names of pictures that are there several times, also saved again or resized:
    they count as one group, and join the groups that they lie in.
    `X` below are paths, Pillow images, arrays or tensors, see `read_images`, or features. Everything that is no image
    is named in one `DataError`, and nothing of the classifier changes. Several threads may ask one fitted classifier.
    """

    def __init__(
        self,
        backbone: str | None = "efficientnet-lite0",
        method: str | None = None,
        *,
        method_options: Mapping[str, Any] | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        pretrained: bool = True,
        weights: str | Path | None = None,
        run_dir: str | Path | None = None,
        size_px: int | None = None,
        resize: Resize = "pad",
        rotation_invariant: bool | int = False,
        find_circle: bool = False,
        views: Mapping[str, Any] | None = None,
        calibrate: bool = True,
        false_accept_rate: float | None = None,
        unknown: Any = "none of these",
        device: str | None = None,
        precision: Precision = "auto",
        seed: int = 0,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.method_options = method_options
        self.backbone_options = backbone_options
        self.pretrained = pretrained
        self.weights = weights
        self.run_dir = run_dir
        self.size_px = size_px
        self.resize = resize
        self.rotation_invariant = rotation_invariant
        self.find_circle = find_circle
        self.views = views
        self.calibrate = calibrate
        self.false_accept_rate = false_accept_rate
        self.unknown = unknown
        self.device = device
        self.precision = precision
        self.seed = seed

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
        X = self._validated(X, fitting=True)
        inputs = Inputs(self)
        images = inputs.listed(X)
        labels = column_or_1d(y, warn=True)
        with warnings.catch_warnings():  # one image a class is no sign of a regression here
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(labels)
        _check_lengths(len(images), labels=labels, groups=groups)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"a classifier needs two classes or more; got {len(classes)} class: {list(classes)}")
        support = inputs.support(images, numbers, groups)
        return self.learn(inputs, classes, support)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, n_classes), columns in the order of `classes_`: softmax of logits / `temperature_`."""
        return self.probabilities(self.logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each image, (n,); `unknown` where a `false_accept_rate` is set and it is none."""
        check_is_fitted(self)
        queries = self.inputs_.encoded(self._validated(X))
        answers = self.classes_[self.fitted_.logits(queries).argmax(1).numpy()]
        if self.rejection_ is None:
            return answers
        answers = answers if answers.dtype.kind in "UO" else answers.astype(object)  # 7 stays a number
        return np.where(self.rejection_.accepts(self.fitted_, self.support_, queries), answers, self.unknown)

    def logits(self, X: Any) -> torch.Tensor:
        """Logits (n, n_classes) of the method, before temperature and softmax."""
        check_is_fitted(self)
        return self.fitted_.logits(self.inputs_.encoded(self._validated(X)))

    def add_class(self, name: Any, images: Any, groups: Sequence[Any] | None = None) -> Self:
        """One more class; the images of the others are not looked at again."""
        check_is_fitted(self)
        if name in self.classes_:
            raise DataError(f"there is a class {name!r} already; remove_class({name!r}) first")
        images = self.inputs_.listed(self._validated(images))
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
        new = self.inputs_.support(images, np.full(len(images), place[np.asarray(name).item()]), groups)
        support = self.support_.relabelled(moved).joined(new)
        return self.learn(self.inputs_, classes, support)

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
        support = self.support_.rows(self.support_.labels != gone).relabelled(moved).checked()
        return self.learn(self.inputs_, np.delete(self.classes_, gone), support)

    def save(self, path: str | Path) -> None:
        """Write the classifier to one file, weights included: safetensors with a JSON header, no code."""
        check_is_fitted(self)
        storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Self:
        """The classifier that `save` wrote. Raises `CheckpointError` for a foreign, cut-short or newer file."""
        return storage.load(cls, Path(path), device)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (m, n_classes) of support images by a classifier that saw nothing of their group, and which
        images these are, (m,); images whose class has no other group are not among them.
        """
        check_is_fitted(self)
        if self.held_out_ is None:
            self.held_out_ = _held_out_logits(self.inputs_, self.support_, len(self.classes_))
        logits, rows = self.held_out_
        return self.probabilities(logits), rows

    def learn(self, inputs: Inputs, classes: np.ndarray, support: Support) -> Self:
        """Take up a support set: fit the method, the temperature and the threshold; all or nothing changes."""
        fitted = inputs.fitted(support, len(classes))
        temperature, calibrated, held_out = 1.0, False, None
        if self.calibrate:
            held_out = logits, rows = _held_out_logits(inputs, support, len(classes))
            if len(rows):
                once = np.unique(support.copies[rows], return_index=True)[1]  # one of each set of copies
                labels = torch.from_numpy(support.labels[rows[once]])
                temperature, calibrated = fit_temperature(logits[torch.from_numpy(once)], labels), True
        rejection = None
        if self.false_accept_rate is not None:
            if not inputs.method.uses_features:
                message = f"{self.method} has no features that tell what an image is like: false_accept_rate needs them"
                raise ConfigError(message)
            rejection = Rejection.learnt(inputs, support, self.false_accept_rate)
        self.inputs_, self.classes_, self.support_, self.fitted_ = inputs, classes, support, fitted
        self.temperature_, self.calibrated_, self.rejection_ = temperature, calibrated, rejection
        self.held_out_ = held_out
        self.copies_, known = support.named_copies(), getattr(self, "copies_", [])
        if self.copies_ and self.copies_ != known:
            sets = few([" = ".join(names) for names in self.copies_])
            logger.warning("the same or nearly the same pictures share a group, lest they test each other: %s", sets)
        return self

    def _validated(self, images: Any, fitting: bool = False) -> Any:
        """Features checked by scikit-learn's rules, images as they are."""
        if self.backbone is not None or self.run_dir is not None:
            return images
        return validate_data(self, images, reset=fitting, dtype=np.float64)

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """softmax(logits / `temperature_`), (n, n_classes)."""
        return torch.softmax(logits.double() / self.temperature_, 1).numpy()


def _held_out_logits(inputs: Inputs, support: Support, n_classes: int) -> tuple[torch.Tensor, np.ndarray]:
    def predict(rows: np.ndarray, queries: np.ndarray) -> torch.Tensor:
        return inputs.fitted(support.rows(rows), n_classes).logits(support.rows(queries).content)

    return held_out_logits(predict, support.labels, support.independent)


def _check_lengths(n_images: int, **given: Any) -> None:
    for what, values in given.items():
        if values is not None and len(values) != n_images:
            raise DataError(f"{len(values)} {what} for {n_images} images")
