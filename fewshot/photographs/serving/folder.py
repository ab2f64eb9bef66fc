"""Reads and writes the folder of a predictor: facts as JSON, arrays as .npz, each file written atomically."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import CheckpointError
from fewshot.estimator.drift import DriftReference
from fewshot.estimator.prediction_sets import SetScores
from fewshot.photographs.serving.learning import Learned, Method, Support
from fewshot.runtime.files import replacing

FORMAT = "fewshot-predictor-1"
ENCODER, HEAD, LABELS = "encoder.onnx", "head.npz", "labels.json"


def read_facts(folder: Path) -> dict[str, Any]:
    """Read `labels.json`; raises `CheckpointError` for a folder that `fewshot export` did not write."""
    if not (folder / LABELS).is_file():
        raise CheckpointError(f"{folder} is no folder that `fewshot export` wrote: there is no {LABELS} in it")
    try:
        facts = json.loads((folder / LABELS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no folder of a predictor: {LABELS} cannot be read ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{folder / LABELS} is not of the format {FORMAT}; export the classifier again")
    return facts


def read_head(folder: Path, facts: Mapping[str, Any]) -> tuple[Method, Learned | None]:
    """Read the method and what it has learned; None if it has no classes yet."""
    try:
        with np.load(folder / HEAD, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / HEAD} cannot be read ({error})") from error
    own = {name.removeprefix("option."): arrays[name] for name in arrays if name.startswith("option.")}
    method = Method(
        facts["method"],
        facts["options"] | own,
        facts["calibrate"],
        facts["false_accept_rate"],
        facts.get("false_reject_rate"),
        facts.get("balanced", False),
        facts.get("unit", True),
    )
    if "classes" not in arrays:
        return method, None
    try:
        support = Support(
            arrays["features"], arrays["labels"], arrays.get("groups"), arrays["digests"], arrays["copies"]
        )
        head = {name.removeprefix("head."): arrays[name] for name in arrays if name.startswith("head.")}
        threshold = float(arrays["threshold"]) if "threshold" in arrays else None
        known = (float(arrays["temperature"]), bool(arrays["calibrated"]), threshold)
    except KeyError as error:
        raise CheckpointError(f"{folder / HEAD} lacks {error}; export the classifier again") from error
    sets = {name.removeprefix("set."): arrays[name] for name in arrays if name.startswith("set.")}
    scores = SetScores(**sets) if sets else None
    drift = _read_drift(folder, arrays, support)
    return method, Learned(arrays["classes"], support, head, *known, scores, drift)


def _read_drift(folder: Path, arrays: Mapping[str, np.ndarray], support: Support) -> DriftReference | None:
    own = {name.removeprefix("drift."): arrays[name] for name in arrays if name.startswith("drift.")}
    try:
        return DriftReference.unpack(own, len(arrays["classes"]), support.features.shape[1]) if own else None
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder / HEAD} has no reference for drift ({error}); export it again") from error


def write_head(folder: Path, facts: Mapping[str, Any], method: Method, learned: Learned | None) -> None:
    """Write `head.npz`, which the predictor reads, then `labels.json`, which other programs may read."""
    own = {name: value for name, value in method.options.items() if isinstance(value, np.ndarray)}
    arrays: dict[str, Any] = {f"option.{name}": value for name, value in own.items()}
    if learned is not None:
        support = learned.support
        arrays |= {f"head.{name}": value for name, value in learned.arrays.items()}
        arrays |= {
            "classes": learned.classes, "features": support.features, "labels": support.labels,
            "digests": support.digests, "copies": support.copies,
            "temperature": np.array(learned.temperature), "calibrated": np.array(learned.calibrated),
        }  # fmt: skip
        arrays |= {} if support.groups is None else {"groups": support.groups}
        arrays |= {} if learned.threshold is None else {"threshold": np.array(learned.threshold)}
        sets = {} if learned.set_scores is None else vars(learned.set_scores)
        arrays |= {f"set.{name}": value for name, value in sets.items()}
        drift = {} if learned.drift is None else learned.drift.pack()
        arrays |= {f"drift.{name}": value for name, value in drift.items()}
    with replacing(folder / HEAD) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    names = [] if learned is None else learned.classes.tolist()
    options = {name: value for name, value in method.options.items() if name not in own}
    told = {**facts, "classes": names, "options": options}
    with replacing(folder / LABELS) as temporary:
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
