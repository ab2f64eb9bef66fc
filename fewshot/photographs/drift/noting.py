"""Notes what a classifier answered, as a drift record takes it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from fewshot.errors import ConfigError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.familiarity import score_known
from fewshot.photographs.drift.record import DriftRecord
from fewshot.photographs.pages.predictions import Prediction

logger = logging.getLogger(__name__)


def open_record(classifier: FewShotClassifier, path: str | Path) -> DriftRecord:
    """Open the drift record of a fitted classifier.

    Raises `ConfigError` for one whose left-out photographs are not known, and `OutputError` as `DriftRecord`.
    """
    was_stored = classifier.drift_ is not None
    reference = classifier.find_drift_reference()
    if reference is None:
        raise ConfigError(
            "this classifier has no numbers of left-out photographs to compare with: fit it with calibrate=True"
        )
    if not was_stored:
        logger.warning(
            "the classifier's file is of an earlier version: its left-out photographs are looked at again each time; "
            "fit it again, or save it, to store them"
        )
    return DriftRecord(path, reference, classifier.classes_.tolist(), classifier.unknown)


def note_predictions(
    classifier: FewShotClassifier, record: DriftRecord, content: Tensor, predictions: Sequence[Prediction]
) -> None:
    """Append `predictions` of encoded photographs, `content` (n, …), to a drift record."""
    has_features = classifier.encoder_.method.uses_features
    known = score_known(classifier.fitted_, content) if has_features else None
    features = content.float().cpu().numpy() if has_features else None
    probabilities = np.array([[p.probabilities[str(name)] for name in classifier.classes_] for p in predictions])
    accepted = None if classifier.rejection_ is None else np.array([not p.rejected for p in predictions])
    record.append(record.reference.note(probabilities, features, known, accepted))
