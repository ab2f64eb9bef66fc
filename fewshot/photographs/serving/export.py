"""Exports a fitted classifier, or the method of a run, as a folder that needs neither torch nor this package."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewshot.backbones import Viewed
from fewshot.errors import ConfigError, DataError, OutputError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.learned import LearnedState
from fewshot.photographs.serving.bundle import bundle
from fewshot.photographs.serving.describe import FIXED_BY_DRAWS, describe_head, is_fixed, probe_linear
from fewshot.photographs.serving.encoder_graph import check_packages, make_feature_graph, quantise, write_encoder
from fewshot.photographs.serving.folder import ENCODER, FORMAT, write_head
from fewshot.photographs.serving.heads import log_softmax
from fewshot.photographs.serving.learning import REFUSALS, Learned, Method, Support

FIXED_BY_NETWORK = (
    "this classifier's network was adapted to its classes, which needs torch: classes stay as they are; fit with "
    "fewshot and export again"
)
REQUIREMENTS = ("numpy>=1.26", "onnxruntime>=1.20", "pillow>=11.0")
BEGUN = ".export-"  # how the folder of an export that is not yet complete begins
MAX_DIFFERENCE = 1e-4  # of probabilities between the predictor's head and the classifier's


def describe_method(classifier: FewShotClassifier) -> tuple[Method, str | None]:
    """Describe the method of a fitted classifier for a predictor, and why its classes are fixed, or None."""
    method = classifier.encoder_.method
    unit = not isinstance(method.backbone, Viewed)
    asked = (classifier.calibrate, *(getattr(classifier, name) for name in REFUSALS), unit)
    if classifier.fitted_.adapted is not None:
        return Method("adapted", {}, *asked), FIXED_BY_NETWORK
    name, options = describe_head(method)
    return Method(name, options, *asked), FIXED_BY_DRAWS if is_fixed(method) else None


def write_predictor(
    classifier: FewShotClassifier, folder: Path, int8: bool = False, encoder: Path | None = None
) -> Method:
    """Write a fitted classifier of images as a folder that answers without torch and without this package.

    `int8`: weights of 8 bits. `encoder`: a file of the same network that was written before, which is copied.
    Raises `ConfigError` for a classifier that cannot be exported, and where the exported head answers otherwise.
    """
    check_packages()
    reader = classifier.inputs_
    if not reader.channels:
        raise ConfigError("a classifier of features has no network to export: give its features to it in Python")
    method, fixed = describe_method(classifier)
    learned = _translate_learned(classifier, method, fixed)
    _check_answers(classifier, method, learned)
    facts = _make_facts(classifier, method, fixed)
    with _filling(folder) as place:
        if encoder is None:
            _write_network(_choose_graph(classifier), reader.channels, reader.size_px, place / ENCODER, int8)
        else:
            shutil.copyfile(encoder, place / ENCODER)
        write_head(place, facts, method, learned)
        write_code(place)
    return method


def write_untaught(encoder: Encoder, unknown: str, folder: Path, int8: bool = False) -> Method:
    """Write the method of a run as a folder that learns classes from photographs that it is given.

    Raises `ConfigError` for a method that cannot be exported.
    """
    check_packages()
    name, options = describe_head(encoder.method)
    if is_fixed(encoder.method):
        raise ConfigError(FIXED_BY_DRAWS)
    method, reader = Method(name, options), encoder.reader
    image = {"channels": reader.channels, "size_px": reader.size_px, "resize": reader.resize}
    with _filling(folder) as place:
        _write_network(make_feature_graph(encoder.network), reader.channels, reader.size_px, place / ENCODER, int8)
        write_head(place, _facts(method, None, unknown, image), method, None)
        write_code(place)
    return method


def write_code(folder: Path) -> None:
    """Write `predictor.py` and what it needs."""
    (folder / "predictor.py").write_text(bundle(), encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")


def _choose_graph(classifier: FewShotClassifier) -> torch.nn.Module:
    adapted = classifier.fitted_.adapted
    if adapted is None:
        return make_feature_graph(classifier.encoder_.network)
    if getattr(adapted, "test_views", 0):
        raise ConfigError(f"test_views={adapted.test_views} draws changes of each picture by torch: fit without them")
    if not isinstance(getattr(adapted, "network", None), torch.nn.Module):
        raise ConfigError(f"{classifier.encoder_.method.label} adapts its weights in torch: it cannot be exported")
    return adapted.network.cpu().eval()


def _write_network(graph: torch.nn.Module, channels: int, size_px: int, path: Path, int8: bool) -> None:
    if not int8:
        write_encoder(graph, channels, size_px, path)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / ENCODER
        write_encoder(graph, channels, size_px, whole)
        quantise(whole, path)


def _translate_learned(classifier: FewShotClassifier, method: Method, fixed: str | None) -> Learned:
    """Convert what the classifier has learned to arrays."""
    source, rejection = classifier.support_, classifier.rejection_
    known = (classifier.temperature_, classifier.calibrated_, None if rejection is None else rejection.threshold)
    n_classes, adapted = len(classifier.classes_), method.name == "adapted"
    copies, digests = source.copies, source.digests
    assert copies is not None, "`Support.check` has found copies"
    assert digests is not None, "a support set of images has hashes"
    features = np.zeros((len(source), 0), np.float32) if adapted else source.content.float().cpu().numpy()
    support = Support(features, source.labels, source.groups, digests, copies)
    if adapted:
        arrays = {}
    elif fixed:
        arrays = probe_linear(classifier.encoder_.method, source.content, torch.from_numpy(source.labels), n_classes)
    else:
        arrays = method.fit(support, n_classes)
    scores = None if adapted and not classifier.calibrated_ else classifier.set_scores_
    return Learned(classifier.classes_, support, arrays, *known, scores, classifier.find_drift_reference())


def _check_answers(classifier: FewShotClassifier, method: Method, learned: Learned) -> None:
    """Raise `ConfigError` if the predictor's head gives other answers on the support set or on its mean."""
    if method.name == "adapted":
        return
    queries = classifier.support_.content
    queries = torch.cat([queries, queries.mean(0, keepdim=True), (queries + queries.roll(1, 0)) / 2])
    expected = classifier.probabilities(classifier.fitted_.logits(queries))
    found = np.exp(log_softmax(method.logits(learned.arrays, queries.numpy()) / learned.temperature))
    difference = float(np.abs(found - expected).max())
    if not difference <= MAX_DIFFERENCE:
        raise ConfigError(
            f"the exported head's probabilities differ by {difference:.2g}: this classifier stays in torch"
        )


def _make_facts(classifier: LearnedState, method: Method, fixed: str | None) -> dict[str, Any]:
    reader = classifier.inputs_
    image = {"channels": reader.channels, "size_px": reader.size_px, "resize": reader.resize}
    unknown = classifier.unknown
    if not isinstance(unknown, str | int | float | bool):
        raise DataError(f"the answer for an image of no known class is a word or a number, got {unknown!r}")
    return _facts(method, fixed, unknown, image)


def _facts(method: Method, fixed: str | None, unknown: Any, image: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT, "unknown": unknown, "image": image, "method": method.name, "calibrate": method.calibrate,
        **{name: getattr(method, name) for name in REFUSALS}, "unit": method.unit, "fixed": fixed,
    }  # fmt: skip


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """Yield a place inside `folder`; what is written there replaces the files of `folder` when all is written."""
    _prepare(folder)
    with tempfile.TemporaryDirectory(prefix=BEGUN, dir=folder) as place:
        yield Path(place)
        for path in Path(place).iterdir():
            path.replace(folder / path.name)


def _prepare(folder: Path) -> None:
    """Make the folder, and remove what a killed export left; raises `OutputError` for one that holds something else."""
    known = {ENCODER, "head.npz", "labels.json", "card.md", "predictor.py", "requirements.txt", "__pycache__"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for abandoned in folder.glob(f"{BEGUN}*"):
            shutil.rmtree(abandoned)
        others = sorted({path.name for path in folder.iterdir()} - known)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror})") from error
    if others:
        raise OutputError(f"{folder} holds {others[0]}: name an empty folder, or one that export wrote before")
