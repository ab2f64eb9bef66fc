"""`FewShotClassifier`: a classifier of a user's own images, by scikit-learn's conventions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError
from fewshot.estimator import storage
from fewshot.estimator.checks import check_lengths, warn_of_training_images
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.labels import check_label, check_labels, delete_label, insert_label, number_labels
from fewshot.estimator.learned import LearnedState
from fewshot.estimator.prediction_sets import choose_sets
from fewshot.estimator.support import Support, check_groups, check_groups_agree
from fewshot.images.listing import list_class_files


class FewShotClassifier(ClassifierMixin, LearnedState):
    """Learns classes from a few images each, and predicts the classes of others.

    `X` below are paths, bytes or open files, Pillow images, arrays or tensors, see `Reader`, or features. Everything
    that is no image is named in one `DataError`, and nothing of the classifier changes. Several threads may ask one
    fitted classifier.

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
        false_reject_rate: or the share of images of known classes that may be refused.
        balanced: or as large a share of the former as of the latter.
        unknown: that answer.

    Attributes:
        classes_: the classes (n_classes,), sorted.
        n_features_in_: of features.
        temperature_, calibrated_: what logits are divided by, and whether held-out images gave it.
        rejection_: the threshold below which an image is of no known class, or None.
        copies_: the names of pictures that are there several times, also saved again or resized: they count as one
            group, and join the groups that they lie in.
        grey_stack_: whether X was an array (n, height, width) of grey images: 1, 3 or 4 of them in such an array are
            images then too, which are refused otherwise, lest the channels of one image be taken for several.
    """

    def fit(self, X: Any, y: Sequence[Any] | None = None, groups: Sequence[Any] | None = None) -> Self:
        """Learn the classes of a support set.

        Args:
            X: n images, or features (n, d).
            y: their labels (n,), words or numbers.
            groups: (n,) images that share a photograph, specimen or video share a group; held-out estimates then never
                see both sides of one. Copies share a group in any case.

        Returns:
            The classifier itself.

        Raises:
            DataError: for fewer than two classes, and where one picture has two labels.
            ConfigError: for options that make no sense.
        """
        self.check_refusals()
        if y is None:
            # scikit-learn's checks of estimators look for the first half of this sentence.
            raise DataError("this estimator requires y to be passed, but the target y is None: label each image")
        labels = check_labels(y)
        images, grey_stack = self._list_support(X, len(labels))
        check_lengths(len(images), labels=labels, groups=groups)
        classes, numbers = number_labels(labels)
        encoder = Encoder.create(self)
        encoder.check_n_classes(len(classes))
        support = Support.gather(encoder.encode(images), numbers, check_groups(groups))
        warn_of_training_images(self.run_dir, support.digests)
        self.learn(encoder, classes, support)
        self.grey_stack_ = grey_stack
        return self

    def fit_folder(self, path: str | Path, groups: str | None = None) -> Self:
        """Learn the classes of a folder that has one folder of photographs a class.

        Args:
            path: the folder.
            groups: a regular expression that finds a photograph's group in its file name, or a csv file `file,group`
                (default: each photograph is its own group).

        Returns:
            The classifier itself; `classes_` are the names of the folders.

        Raises:
            DataError: for a folder that is not so, and as `fit`.
        """
        files = assign_groups(Path(path), list_class_files(Path(path)), groups)
        found = None if groups is None else [file.group for file in files]
        return self.fit([file.path for file in files], [file.class_name for file in files], found)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict how likely each class is: softmax of logits / `temperature_`.

        Args:
            X: n images, or features (n, d).

        Returns:
            Probabilities (n, n_classes), columns in the order of `classes_`.
        """
        return self.probabilities(self.logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the likeliest class of each image.

        Args:
            X: n images, or features (n, d).

        Returns:
            Labels (n,); `unknown` where a threshold is asked for and the image is of no known class.
        """
        check_is_fitted(self)
        queries = self.embed(X)
        answers = self.classes_[self.fitted_.logits(queries).argmax(1).numpy()]
        if self.rejection_ is None:
            return answers
        answers = answers if answers.dtype.kind in "UO" else answers.astype(object)  # else NumPy turns 7 into "7"
        return np.where(self.rejection_.accept(self.fitted_, queries), answers, self.unknown)

    def predict_set(self, X: Any, coverage: float = 0.95) -> np.ndarray:
        """Predict the classes that each image may be of, so that a promised share of these sets holds the right one.

        What is promised: over supports and images drawn alike, each from a group of its own, about `coverage` of the
        sets hold the right class, on average over all classes. The scores come from classifiers that were each fitted
        without a fold of groups, as in jackknife+ (Barber, Candès, Ramdas, Tibshirani, 2021,
        https://arxiv.org/abs/1905.02928): proven is only 1 − 2 (1 − `coverage`), less 2 / (n + 1) of n groups. Nothing
        is promised of images of no known class, of other cameras or light, and of one support alone.

        Args:
            X: n images, or features (n, d).
            coverage: between 0 and 1; n / (n + 1) at most, of n groups of all classes that can be left out.

        Returns:
            Whether each class is in the set, (n, n_classes) bool; the likeliest class always is.

        Raises:
            DataError: for a coverage that the support cannot promise; names the highest possible.
        """
        check_is_fitted(self)
        bounds = self.set_scores_.find_bounds(coverage, len(self.classes_))
        return choose_sets(self.predict_proba(X), bounds)

    def logits(self, X: Any) -> torch.Tensor:
        """Compute the method's logits, before temperature and softmax.

        Args:
            X: n images, or features (n, d).

        Returns:
            Logits (n, n_classes), float32 on the CPU.
        """
        check_is_fitted(self)
        return self.fitted_.logits(self.embed(X))

    def add_class(self, name: Any, images: Any, groups: Sequence[Any] | None = None) -> Self:
        """Add a class; the images of the others are not encoded again.

        Args:
            name: its label, of the type of the others.
            images: images of it, or features (n, d).
            groups: (n,) as for `fit`; given exactly if `fit` was given them.

        Returns:
            The classifier itself.

        Raises:
            DataError: for a class that exists already, and for images that cannot be used.
        """
        check_is_fitted(self)
        name = check_label(name, self.classes_)
        classes, numbers, own = insert_label(self.classes_, name)
        images = self._list(images)
        check_lengths(len(images), groups=groups)
        if not len(images):
            raise DataError(f"class {name!r} needs at least one image: the list is empty")
        check_groups_agree(groups, self.support_.groups)
        self.encoder_.check_n_classes(len(classes))
        labels = np.full(len(images), own)
        new = Support.gather(self.encoder_.encode(images), labels, check_groups(groups))
        if not getattr(self, "from_file_", False):  # a loaded file must not make us open the path in its run_dir
            warn_of_training_images(self.run_dir, new.digests)
        return self.learn(self.encoder_, classes, self.support_.relabel(numbers).join(new))

    def remove_class(self, name: Any) -> Self:
        """Remove a class.

        Args:
            name: its label.

        Returns:
            The classifier itself.

        Raises:
            DataError: for an unknown class, and where fewer than two would remain.
        """
        check_is_fitted(self)
        classes, numbers, removed = delete_label(self.classes_, name)
        support = self.support_.select(self.support_.labels != removed).relabel(numbers).check()
        return self.learn(self.encoder_, classes, support)

    def save(self, path: str | Path) -> None:
        """Write the classifier to one file, weights included: safetensors with a JSON header, no code.

        Args:
            path: of the file, which is replaced.
        """
        check_is_fitted(self)
        storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Self:
        """Load the classifier that `save` wrote.

        Args:
            path: of the file.
            device: where it computes; None takes an accelerator if there is one.

        Returns:
            The classifier, which answers as it did.

        Raises:
            CheckpointError: for a foreign, cut-short or newer file.
        """
        return storage.load(cls, Path(path), device)
