"""Saves a fitted classifier to one file, safetensors with a JSON header, and loads it without executing its content."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from fewshot.config.classifier import ClassifierOptions, options_of
from fewshot.errors import CheckpointError, DataError
from fewshot.estimator.building import Plan
from fewshot.estimator.drift import DriftReference
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import fit
from fewshot.estimator.independence import name_copies
from fewshot.estimator.labels import UNKNOWN
from fewshot.estimator.reading import THUMBNAIL_PX
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support
from fewshot.estimator.thresholds import RefusalScores
from fewshot.images.listing import list_few
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.runtime.provenance import collect_provenance

FORMAT = "fewshot-classifier-1"
KINDS = "biufUO"  # NumPy's dtype kinds of labels that JSON can hold
Classifier = TypeVar("Classifier")  # FewShotClassifier, whose module imports this one


def save(classifier: Any, path: Path) -> None:
    """Write a fitted `FewShotClassifier`; raises `CheckpointError` if a label or an option cannot be written."""
    classes = classifier.classes_
    names = classes.tolist()
    if classes.dtype.kind not in KINDS or not all(isinstance(name, bool | int | float | str) for name in names):
        raise CheckpointError(f"classes of type {classes.dtype} cannot be written to a file: {names[:5]}")
    support, rejection, plan = classifier.support_, classifier.rejection_, classifier.encoder_.plan
    drift = classifier.find_drift_reference()
    state = {
        "options": _make_plain(classifier.get_params()),
        "plan": _make_plain(asdict(plan.options)) | {"pixels": plan.pixels},
        "method": classifier.encoder_.method.state_dict(),
        "fitted": classifier.fitted_.state,
        "held_out": _pack_held_out(classifier.fitted_.held_out) if classifier.calibrated_ else None,
        "classes": names,
        "classes_dtype": classes.dtype.str,
        "support": _pack_support(support),
        "temperature": classifier.temperature_,
        "calibrated": classifier.calibrated_,
        "rejection": None if rejection is None else _pack_rejection(rejection),
        "drift": None if drift is None else {name: torch.from_numpy(x) for name, x in drift.pack().items()},
        "grey_stack": getattr(classifier, "grey_stack_", False),
        "n_features": getattr(classifier, "n_features_in_", None),
        "provenance": collect_provenance(),
    }
    save_checkpoint(path, state, FORMAT)


def load(kind: type[Classifier], path: Path, device: str | None) -> Classifier:
    """Load the classifier in a file; raises `CheckpointError` if the file holds none."""
    state = load_checkpoint(path, FORMAT)
    try:
        return _restore(kind, state, device)
    except Exception as error:  # a file that `save` did not write can hold anything, and fail anywhere
        what = " ".join(str(error).split())[:300]
        message = f"{path} is marked as a classifier, but its contents are not those of one"
        raise CheckpointError(f"{message} ({type(error).__name__}: {what})") from error


def read_provenance(path: Path) -> dict[str, Any]:
    """Where a classifier of a file was fitted: commit, command, versions, hardware."""
    return dict(load_checkpoint(path, FORMAT).get("provenance") or {})


def _restore(kind: type[Classifier], state: dict[str, Any], device: str | None) -> Classifier:
    classifier: Any = kind(**state["options"] | {"device": device})
    resolved = options_of(ClassifierOptions, classifier) | state["plan"] | {"device": device}
    pixels = resolved.pop("pixels")
    loading = sorted({"pretrained", "weights"} & (resolved["backbone_options"] or {}).keys())
    if loading:  # the weights are in this file: it must not make us open another one
        raise DataError(f"backbone_options has {', '.join(loading)}")
    plan = Plan(ClassifierOptions(**resolved), pixels)
    method = plan.build()
    method.load_state_dict(state["method"])
    classifier.encoder_ = Encoder(method.eval(), plan)
    classifier.inputs_ = classifier.encoder_.reader
    classifier.classes_ = np.array(state["classes"], dtype=np.dtype(state["classes_dtype"]))
    classifier.support_ = _unpack_support(state["support"], len(classifier.classes_))
    if state["n_features"] is not None:
        classifier.n_features_in_ = state["n_features"]
    classifier.temperature_, classifier.calibrated_ = float(state["temperature"]), bool(state["calibrated"])
    classifier.copies_ = name_copies(classifier.support_.names, classifier.support_.copies)
    classifier.fitted_ = fit(classifier.encoder_, classifier.support_, len(classifier.classes_), state["fitted"])
    if state.get("held_out") is not None:  # else they are computed when they are asked for
        classifier.fitted_.held_out = _unpack_held_out(state["held_out"], classifier.support_, len(classifier.classes_))
    classifier.rejection_ = None if state["rejection"] is None else _unpack_rejection(state["rejection"], classifier)
    classifier.drift_ = None  # of files of early versions: found anew from the support where it is asked for
    if state.get("drift") is not None:
        arrays = {name: values.numpy() for name, values in state["drift"].items()}
        width = classifier.support_.content[0].numel()
        classifier.drift_ = DriftReference.unpack(arrays, len(classifier.classes_), width)
    classifier.grey_stack_ = bool(state.get("grey_stack"))  # not in files of early versions
    classifier.from_file_ = True
    _check(classifier)
    return classifier


def _check(classifier: Any) -> None:
    """Raise `DataError` unless the loaded classifier has valid parts and classifies a blank image."""
    classes = classifier.classes_
    if classes.ndim != 1 or len(classes) < 2 or not np.array_equal(np.unique(classes), classes):
        raise DataError(f"its classes are {list_few(classes.tolist())}: not two or more, sorted and distinct")
    if (classifier.encoder_.plan.pixels is None) != (classifier.backbone is None and classifier.run_dir is None):
        raise DataError("its options and its plan disagree on whether it classifies images or features")
    if not isinstance(classifier.unknown, UNKNOWN):
        raise DataError(f"unknown is {classifier.unknown!r}, neither a word nor a number")
    if not 0 < classifier.temperature_ < np.inf:
        raise DataError(f"its temperature is {classifier.temperature_}, not a positive number")
    logits = classifier.fitted_.logits(classifier.encoder_.compute_content(_make_blank(classifier)))
    if logits.shape != (1, len(classes)) or not torch.isfinite(logits).all():
        raise DataError(f"its logits have the shape {tuple(logits.shape)}, or are not finite")


def _make_blank(classifier: Any) -> torch.Tensor:
    """A black image, or a row of zeros if the classifier takes features."""
    reader = classifier.inputs_
    if not reader.channels:
        return torch.zeros(1, classifier.n_features_in_)
    return reader.read([np.zeros((1, 1), np.uint8)])[0]


def _make_plain(options: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}


def _pack_held_out(held_out: tuple[torch.Tensor, np.ndarray]) -> dict[str, torch.Tensor]:
    logits, rows = held_out
    return {"logits": logits, "rows": torch.from_numpy(rows)}


def _unpack_held_out(state: dict[str, Any], support: Support, n_classes: int) -> tuple[torch.Tensor, np.ndarray]:
    logits, rows = state["logits"], state["rows"].numpy()
    if logits.shape != (len(rows), n_classes) or not torch.isfinite(logits).all():
        raise DataError(f"its left-out answers have the shape {tuple(logits.shape)}, or are not finite")
    if len(np.unique(rows)) != len(rows) or not np.isin(rows, np.arange(len(support))).all():
        raise DataError("its left-out answers are not of its support images")
    return logits, rows


def _pack_rejection(rejection: Rejection) -> dict[str, Any]:
    scores = {name: torch.from_numpy(values) for name, values in vars(rejection.scores).items()}
    return {"threshold": rejection.threshold, "scores": scores}


def _unpack_rejection(state: dict[str, Any], classifier: Any) -> Rejection:
    if "scores" not in state:  # of a version with other scores, whose threshold means nothing here
        if not classifier.refuses:
            raise DataError("it has a threshold, and no option that asks for one")
        return Rejection.learn(classifier.fitted_, classifier)
    scores = {name: values.numpy() for name, values in state["scores"].items()}
    if not isinstance(state["threshold"], int | float):
        raise DataError(f"the threshold is {state['threshold']!r}")
    return Rejection(state["threshold"], RefusalScores(**scores))


def _pack_support(support: Support) -> dict[str, Any]:
    return {
        "content": support.content,
        "labels": torch.from_numpy(support.labels),
        "groups": None if support.groups is None else support.groups.tolist(),
        "names": list(support.names),
        "digests": None if support.digests is None else torch.from_numpy(support.digests.copy()),
        "thumbnails": support.thumbnails,
    }


def _unpack_support(state: dict[str, Any], n_classes: int) -> Support:
    content, labels, thumbnails = state["content"], state["labels"].numpy(), state["thumbnails"]
    groups = None if state["groups"] is None else np.array([str(group) for group in state["groups"]])
    digests = None if state["digests"] is None else state["digests"].numpy()
    n = len(labels)
    if set(labels.tolist()) != set(range(n_classes)):
        raise DataError(
            f"its support set has the labels {list_few(np.unique(labels).tolist())}, but there are {n_classes} classes"
        )
    shapes = {
        "content": content.shape[:1] == (n,),
        "names": len(state["names"]) == n and all(isinstance(name, str) for name in state["names"]),
        "groups": groups is None or groups.shape == (n,),
        "digests": digests is None or (digests.shape == (n, 8) and digests.dtype == np.uint8),
        "thumbnails": thumbnails is None
        or (thumbnails.shape == (n, 3, THUMBNAIL_PX, THUMBNAIL_PX) and thumbnails.dtype == torch.uint8),
    }
    bad = [name for name, right in shapes.items() if not right]
    if bad:
        raise DataError(f"its support set has {n} images, which does not fit the shape of {', '.join(bad)}")
    return Support(content, labels.astype(np.int64), groups, tuple(state["names"]), digests, thumbnails).check()
