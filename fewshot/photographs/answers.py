"""Predicts photographs with a fitted classifier: class probabilities, rejection and the most similar support images."""

import logging
import re
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot.errors import DataError, OutputError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.prediction_sets import choose_sets
from fewshot.images.listing import normalise_text
from fewshot.photographs.encoding import EncodedPhotographs
from fewshot.photographs.pages.predictions import Neighbour, Prediction

N_NEIGHBOURS = 3
logger = logging.getLogger(__name__)


def write_support_pictures(classifier: FewShotClassifier, folder: Path) -> list[Path]:
    """Write the thumbnail of each support image into `folder`, under the name of its file; returns the paths.

    The original file is not opened. Whoever wrote the classifier chose its path, which could name a private file of
    the user, and the page may be passed on.
    """
    support, pictures = classifier.support_, []
    for row, name in enumerate(support.names):
        path = folder / str(row) / (re.sub(r"[^\w .()-]", "_", Path(name).stem)[:60] + ".png")
        if support.thumbnails is not None:
            try:
                path.parent.mkdir()
                Image.fromarray(support.thumbnails[row].permute(1, 2, 0).numpy()).save(path)
            except OSError as error:
                what = f"{folder} cannot be written ({error.strerror or error})"
                raise OutputError(f"{what}: name another folder for temporary files in TMPDIR") from error
        pictures.append(path)
    return pictures


def predict(
    classifier: FewShotClassifier, asked: EncodedPhotographs, pictures: list[Path], coverage: float = 0.0
) -> list[Prediction]:
    """Predict each photograph that was asked about; `pictures`: files that show the support images.

    `coverage`: of the sets of classes; 0 makes none. Where the support cannot promise it, a warning says what it can.
    """
    paths, content = asked.paths, asked.content
    support, names = classifier.support_, [str(name) for name in classifier.classes_]
    fitted, rejection = classifier.fitted_, classifier.rejection_
    probabilities = classifier.probabilities(fitted.logits(content))
    sets = _choose_sets(classifier, probabilities, coverage)
    accepted = np.ones(len(paths), bool) if rejection is None else rejection.accept(fitted, content)
    method = classifier.encoder_.method
    n_shown = min(N_NEIGHBOURS, len(support)) if method.uses_features else 0  # raw pixels tell no similarity
    nearest = method.similarity(support.content.float(), content.float()).topk(n_shown, 1)
    predictions, none = [], str(classifier.unknown)
    for i, path in enumerate(paths):
        neighbours = [
            Neighbour(pictures[row], names[support.labels[row]], float(share))
            for share, row in zip(nearest.values[i], nearest.indices[i].tolist(), strict=True)
        ]
        folder = normalise_text(path.parent.name)
        truth = folder if path.parent != asked.place and folder in names else None
        shares = dict(zip(names, probabilities[i].tolist(), strict=True))
        best = names[int(probabilities[i].argmax())]
        could_be = tuple(names[c] for c in np.argsort(-probabilities[i], kind="stable") if sets[i, c])
        shown = asked.name(path)
        predictions.append(Prediction(shown, path, best, shares, not accepted[i], truth, neighbours, none, could_be))
    return predictions


def _choose_sets(classifier: FewShotClassifier, probabilities: np.ndarray, coverage: float) -> np.ndarray:
    """Which classes are in the set of each photograph, (n, n_classes) bool; none where there are no sets."""
    if coverage:
        try:
            return choose_sets(probabilities, classifier.set_scores_.find_bounds(coverage, probabilities.shape[1]))
        except DataError as error:
            logger.warning("no sets of classes: %s", error)
    return np.zeros(probabilities.shape, bool)
