"""`card.md`: what a predictor was made from, how good it was found to be, what it is for, and its limits."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewshot.errors import DataError
from fewshot.estimator.confidence import compute_calibration_error
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.photographs.inspection.intervals import Proportion, estimate_proportion
from fewshot.photographs.serving.learning import Method
from fewshot.runtime.provenance import hash_weights
from fewshot.runtime.terminal import visible_text

FEW = 5  # photographs of a class, below which its answers rest on little
Rows = Sequence[tuple[str, str]]


def write_card(
    classifier: FewShotClassifier, method: Method, fixed: str | None, provenance: Mapping[str, Any], measured: Rows
) -> str:
    """The card of a fitted classifier; `provenance`: of its fit, `measured`: of the exported files on photographs."""
    names = [visible_text(name) for name in classifier.classes_]
    counts = np.bincount(classifier.support_.labels, minlength=len(names))
    facts: list[tuple[str, str]] = [
        ("classes", f"{len(names)}"),
        ("photographs learned from", f"{len(classifier.support_)}, {counts.min()} to {counts.max()} a class"),
        ("groups", "not given" if classifier.support_.groups is None else f"{len(set(classifier.support_.groups))}"),
        ("fingerprint of these photographs", fingerprint_support(classifier)),
        *_describe_network(classifier, method),
        ("fitted with", _describe_provenance(provenance)),
    ]
    lines = [
        f"# {', '.join(names[:6])}{' …' if len(names) > 6 else ''}", "",
        "Tells photographs of these classes apart. Made by `fewshot export`; every number below was computed from the "
        "classifier's own records.", "",
        *_make_table(("", ""), facts),
        "", "## Classes", "",
        *_make_table(("class", "photographs"), [(n, str(c)) for n, c in zip(names, counts, strict=True)]),
        "", "## How good it is", "",
        *_make_table(("", ""), [*_measure_left_out(classifier), *_describe_refusals(classifier), *measured]),
        "", "## Intended use", "",
        f"Photographs that show one of the {len(names)} classes, taken like those that were learned from. The answer "
        "is a suggestion with a probability: where a mistake is costly, a person looks at answers below a probability "
        "that the table above does not support.",
        "", "## Limits", "",
        *[f"- {sentence}" for sentence in _list_limits(classifier, counts, names, fixed)], "",
    ]  # fmt: skip
    return "\n".join(lines)


def write_run_card(method: Method, facts: Rows) -> str:
    """The card of a run's method, which has no classes yet."""
    lines = [
        f"# {method.name}, without classes", "",
        "The method and the network of a training run. It learns classes from photographs that it is given: "
        "`python predictor.py photo.jpg --support FOLDER`, one folder a class, or "
        "`Predictor(folder).fit(images, labels)`. Made by `fewshot export`.", "",
        *_make_table(("", ""), facts),
        "", "## Limits", "",
        "- Nothing is known of its accuracy on your photographs before you measure it; the run's records speak of its "
        "own test classes.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def fingerprint_support(classifier: FewShotClassifier) -> str:
    """A hash of the photographs that were learned from, with their classes, whatever their order and names."""
    support = classifier.support_
    if support.digests is None:
        raise DataError("a classifier of features has no photographs")
    names = [str(name) for name in classifier.classes_]
    rows = sorted(bytes(d) + names[label].encode() for d, label in zip(support.digests, support.labels, strict=True))
    return hashlib.blake2b(b"\0".join(rows), digest_size=8).hexdigest()


def _describe_network(classifier: FewShotClassifier, method: Method) -> Rows:
    options, encoder = classifier.encoder_.plan.options, classifier.encoder_
    views = ", ".join(f"{key}={value}" for key, value in (options.views or {}).items())
    reader = classifier.inputs_
    return [
        ("network", f"{options.backbone}{f' ({views})' if views else ''}, weights {hash_weights(encoder.method)}"),
        ("images", f"{reader.size_px} x {reader.size_px} px, {reader.channels} channels, resize {reader.resize}"),
        ("head", options.method or method.name),
    ]


def _describe_provenance(provenance: Mapping[str, Any]) -> str:
    versions = provenance.get("versions", {})
    return f"fewshot {versions.get('fewshot', '?')}, commit {provenance.get('commit', '?')}"


def _measure_left_out(classifier: FewShotClassifier) -> Rows:
    probabilities, rows = classifier.predict_held_out()
    if not len(rows):
        return [("right on photographs left out", "unknown: no class has photographs of two groups")]
    labels, groups = classifier.support_.labels[rows], classifier.support_.independent
    right = (probabilities.argmax(1) == labels).astype(float)
    found = estimate_proportion(right, np.ones(len(rows)), None if groups is None else groups[rows])
    logits = classifier.fitted_.held_out[0].double()
    before, after = (compute_calibration_error(p, labels) for p in (logits.softmax(1).numpy(), probabilities))
    return [
        ("right on photographs left out", format_share(found)),
        ("temperature of the probabilities", f"{classifier.temperature_:.3g}"),
        ("calibration error on the same photographs", f"{after:.1%} (with temperature 1: {before:.1%})"),
    ]  # fmt: skip


def _describe_refusals(classifier: FewShotClassifier) -> Rows:
    rejection = classifier.rejection_
    if rejection is None:
        return [("refusals", "none: every photograph is given one of the classes")]
    asked = f"those of unknown classes are to be refused {classifier.describe_refusals()}"
    threshold = (
        f"score {rejection.threshold:.3g}, set by {len(rejection.scores.unknown)} photographs of classes left out"
    )
    return [(f"answers “{visible_text(classifier.unknown)}”", f"below {threshold}; {asked}")]


def _list_limits(
    classifier: FewShotClassifier, counts: np.ndarray, names: Sequence[str], fixed: str | None
) -> list[str]:
    few = [name for name, count in zip(names, counts, strict=True) if count < FEW]
    limits = [
        "Photographs from other cameras, places or lights may be answered worse than the table says: it speaks of "
        "photographs like those learned from."
    ]
    if few:
        limits.append(f"Fewer than {FEW} photographs of {', '.join(few[:8])}{' …' if len(few) > 8 else ''}.")
    if classifier.support_.groups is None:
        limits.append(
            "Groups were not given: where photographs show the same object, the share right on photographs left out "
            "is too high."
        )
    if not classifier.calibrated_:
        limits.append("Probabilities are not calibrated: no photograph could be held out.")
    if classifier.rejection_ is None:
        limits.append("A photograph of something else is given one of the classes too.")
    if classifier.encoder_.precision != "float32" and classifier.fitted_.adapted is None:
        limits.append(
            f"The classifier was fitted in precision {classifier.encoder_.precision}, the predictor computes in "
            "float32: fit with --precision float32 for answers that are the same to four digits."
        )
    if fixed:
        limits.append(f"No class can be added or removed: {fixed}.")
    return limits


def format_share(found: Proportion) -> str:
    """A share with its interval, in words."""
    images = f"{found.n_images} photographs of {found.n_groups} groups"
    return f"{found.mean:.1%} (95% interval {found.low:.1%} to {found.high:.1%}, {images})"


def _make_table(head: tuple[str, str], rows: Rows) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {head[0]} | {head[1]} |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in cells)]
