"""The learned state of a classifier: encoded support set, fitted method, temperature and rejection threshold."""

import logging
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from fewshot.config.classifier import AnswerOptions
from fewshot.errors import ConfigError, DataError
from fewshot.estimator.drift import DriftReference
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.familiarity import score_left_out
from fewshot.estimator.fitting import learn
from fewshot.estimator.independence import name_copies
from fewshot.estimator.labels import check_unknown
from fewshot.estimator.prediction_sets import SetScores
from fewshot.estimator.reading import is_grey_stack, list_images
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support
from fewshot.images.listing import list_few
from fewshot.runtime.terminal import visible_text

logger = logging.getLogger(__name__)


class LearnedState(BaseEstimator, AnswerOptions):
    """The part of `FewShotClassifier` that works on encoded images."""

    def learn(self, encoder: Encoder, classes: np.ndarray, support: Support) -> Self:
        """Fit the method, the temperature and the threshold to an encoded support set; all or nothing changes.

        Args:
            encoder: the method, with what reads its images.
            classes: the labels (n_classes,), sorted.
            support: what the encoder made of the images.

        Returns:
            The classifier itself.
        """
        fitted, temperature = learn(encoder, support, len(classes), self.calibrate)
        rejection = None
        if self.refuses:
            check_unknown(self.unknown, classes)
            if not encoder.method.uses_features:
                message = f"{self.method} has no features to compare images by: refusing needs them"
                raise ConfigError(message)
            rejection = Rejection.learn(fitted, self)
        self.encoder_, self.inputs_ = encoder, encoder.reader
        self.classes_, self.support_, self.fitted_ = classes, support, fitted
        self.temperature_, self.calibrated_ = (1.0, False) if temperature is None else (temperature, True)
        self.rejection_ = rejection
        self.drift_: DriftReference | None = None
        copies = cast(np.ndarray, support.copies)  # set by `Support.check`
        self.copies_, known = name_copies(support.names, copies), getattr(self, "copies_", [])
        if self.copies_ and self.copies_ != known:
            sets = visible_text(list_few([list_few(names, 4, " = ") for names in self.copies_]))
            logger.warning(
                "the same or nearly the same pictures share a group, so that none is tested on its copy: %s", sets
            )
        return self

    def embed(self, X: Any) -> torch.Tensor:
        """Compute what the fitted method classifies of each image.

        Args:
            X: images, as for `fit`, or features (n, d) where the classifier has no backbone.

        Returns:
            Features (n, D) on the CPU; prepared images (n, C, H, W) of methods that adapt weights.

        Raises:
            DataError: for an empty list, and for images that cannot be read.
        """
        images = self._list(X)
        if not len(images):
            raise DataError("there is no image to classify: the list is empty")
        return torch.cat([batch.values for batch in self.encoder_.encode(images)])

    def _list(self, X: Any) -> Sequence[Any]:
        """List the images, or check the features by scikit-learn's rules.

        After `fit` on an array (n, height, width) of grey images, `X[:3]` are three images too.
        """
        if self.backbone is None and self.run_dir is None:
            return validate_data(self, X, reset=False, dtype=np.float64)
        return list_images(X, getattr(self, "grey_stack_", False) and is_grey_stack(X))

    def _list_support(self, X: Any, n_labels: int) -> tuple[Sequence[Any], bool]:
        """List the images or features to fit on, as `_list` does; also whether they are a stack of grey images."""
        if self.backbone is None and self.run_dir is None:
            return validate_data(self, X, reset=True, dtype=np.float64), False
        grey_stack = is_grey_stack(X, n_labels)
        return list_images(X, grey_stack), grey_stack

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """Turn logits into probabilities: softmax(logits / `temperature_`).

        Args:
            logits: (n, n_classes), as `logits` computes them.

        Returns:
            Probabilities (n, n_classes).
        """
        return torch.softmax(logits.double() / self.temperature_, 1).numpy()

    def predict_held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Predict support images, each by a classifier that was fitted without its group.

        Returns:
            Probabilities (m, n_classes), and which images these are, (m,): those whose class has another group.
        """
        check_is_fitted(self)
        logits, rows = self.fitted_.held_out
        return self.probabilities(logits), rows

    @property
    def set_scores_(self) -> SetScores:
        """What decides how wide prediction sets are."""
        probabilities, rows = self.predict_held_out()
        groups = self.support_.independent
        return SetScores.of(probabilities, self.support_.labels[rows], None if groups is None else groups[rows])

    def find_drift_reference(self) -> DriftReference | None:
        """What left-out images are like, to which later ones are compared; found once, and kept by `save`.

        None for methods that adapt weights unless left-out images were predicted at fit, since each costs a fit.
        """
        uses_features = self.encoder_.method.uses_features
        if self.drift_ is None and (uses_features or self.calibrated_):
            probabilities, rows = self.predict_held_out()
            support, rejection = self.support_, self.rejection_
            known = None
            if uses_features:
                known = score_left_out(self.fitted_)[0] if rejection is None else rejection.scores.known
            self.drift_ = DriftReference.collect(
                probabilities, rows, support.labels, support.independent,
                support.content.float().cpu().numpy() if uses_features else None,
                known, None if rejection is None else rejection.threshold,
            )  # fmt: skip
        return self.drift_
