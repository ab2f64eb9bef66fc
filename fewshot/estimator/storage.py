"""A fitted classifier in one file: safetensors with a JSON header, read without running anything from it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from fewshot.config.classifier import ClassifierOptions, options_of
from fewshot.errors import CheckpointError
from fewshot.estimator.building import Plan
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import fit
from fewshot.estimator.independence import name_copies
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.runtime.provenance import provenance

FORMAT = "fewshot-classifier-1"
KINDS = "biufUO"  # numpy's kinds of labels that JSON can hold
Classifier = TypeVar("Classifier")  # FewShotClassifier, which this room does not know


def save(classifier: Any, path: Path) -> None:
    """Write a fitted `FewShotClassifier`; raises `CheckpointError` where a label or an option cannot be written."""
    classes = classifier.classes_
    names = classes.tolist()
    if classes.dtype.kind not in KINDS or not all(isinstance(name, bool | int | float | str) for name in names):
        raise CheckpointError(f"classes of kind {classes.dtype} cannot be written to a file: {names[:5]}")
    support, rejection, plan = classifier.support_, classifier.rejection_, classifier.encoder_.plan
    state = {
        "options": _plain(classifier.get_params()),
        "plan": _plain(asdict(plan.options)) | {"pixels": plan.pixels},
        "method": classifier.encoder_.method.state_dict(),
        "fitted": classifier.fitted_.state,
        "classes": names,
        "classes_dtype": classes.dtype.str,
        "support": _support_state(support),
        "temperature": classifier.temperature_,
        "calibrated": classifier.calibrated_,
        "rejection": None if rejection is None else asdict(rejection),
        "n_features": getattr(classifier, "n_features_in_", None),
        "provenance": provenance(),
    }
    save_checkpoint(path, state, FORMAT)


def load(kind: type[Classifier], path: Path, device: str | None) -> Classifier:
    """The classifier of a file; raises `CheckpointError` for a file that holds none."""
    state = load_checkpoint(path, FORMAT)
    classifier: Any = kind(**state["options"] | {"device": device})
    resolved = options_of(ClassifierOptions, classifier) | state["plan"] | {"device": device}
    pixels = resolved.pop("pixels")
    plan = Plan(ClassifierOptions(**resolved), pixels)
    method = plan.build()
    method.load_state_dict(state["method"])
    classifier.encoder_ = Encoder(method.eval(), plan)
    classifier.reader_ = classifier.encoder_.reader()
    classifier.classes_ = np.array(state["classes"], dtype=np.dtype(state["classes_dtype"]))
    classifier.support_ = _support_from(state["support"])
    if state["n_features"] is not None:
        classifier.n_features_in_ = state["n_features"]
    classifier.temperature_, classifier.calibrated_ = state["temperature"], state["calibrated"]
    classifier.copies_ = name_copies(classifier.support_.names, classifier.support_.copies)
    classifier.rejection_ = None if state["rejection"] is None else Rejection(**state["rejection"])
    classifier.fitted_ = fit(classifier.encoder_, classifier.support_, len(classifier.classes_), state["fitted"])
    return classifier


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}


def _support_state(support: Support) -> dict[str, Any]:
    return {
        "content": support.content,
        "labels": torch.from_numpy(support.labels),
        "groups": None if support.groups is None else support.groups.tolist(),
        "names": list(support.names),
        "digests": None if support.digests is None else torch.from_numpy(support.digests.copy()),
        "thumbnails": support.thumbnails,
    }


def _support_from(state: dict[str, Any]) -> Support:
    return Support(
        state["content"],
        state["labels"].numpy(),
        None if state["groups"] is None else np.array(state["groups"]),
        tuple(state["names"]),
        None if state["digests"] is None else state["digests"].numpy(),
        state["thumbnails"],
    ).checked()
