"""The commands fit, predict and check: fit a classifier to a folder, predict photographs, check a folder."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fewshot.config import CheckPhotographsConfig, FitPhotographsConfig, PhotographsConfig, PredictPhotographsConfig
from fewshot.config.classifier import AnswerOptions, RefusalOptions, options_of
from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError, OutputError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.fitting import fit
from fewshot.estimator.reading import Reader
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support, check_groups
from fewshot.images.formats import count_unread
from fewshot.images.listing import ImageFile, list_class_files, list_few, list_image_files
from fewshot.photographs.answers import predict, write_support_pictures
from fewshot.photographs.inspection.check import check_folder
from fewshot.photographs.inspection.extrapolation import extrapolate
from fewshot.photographs.inspection.intervals import Proportion, estimate_proportion
from fewshot.photographs.inspection.learning_curve import measure_shots_curve, predict_left_out
from fewshot.photographs.pages.check_page import write_check
from fewshot.photographs.pages.predictions import PageFacts, Prediction, write_csv
from fewshot.photographs.pages.predictions_page import write_predictions
from fewshot.photographs.refusals import RefusalPrice
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import check_writable, format_json_by_line, write_whole
from fewshot.runtime.terminal import visible_text

# `check` and `fit` estimate accuracy in two ways, and print what each means.
EXPLANATIONS = {
    "check": "each photograph, or group with --groups, is predicted from all others but one of each other class, "
    "so that the classes stay balanced",
    "fit": "photographs, or groups with --groups, are dealt to at most ten folds, and each fold is predicted from "
    "the others; check leaves out one at a time and balances the classes, so its accuracy can differ",
}
DEFAULT_ACCEPT = 0.1  # what `check` tells the price of, where no other way to refuse is asked for
logger = logging.getLogger(__name__)


def fit_folder(config: FitPhotographsConfig) -> FewShotClassifier:
    """Fit a classifier to a folder and write it to a file; prints its cross-validated accuracy."""
    check_writable(config.out)
    classifier = FewShotClassifier(**options_of(AnswerOptions, config))
    _fit(classifier, config)
    classifier.save(config.out)
    counts = np.bincount(classifier.support_.labels)
    span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    print(f"{len(counts)} classes, {format_count(len(classifier.support_), 'photograph')} ({span} a class)")
    probabilities, rows = classifier.predict_held_out()
    if len(rows):
        right = probabilities.argmax(1) == classifier.support_.labels[rows]
        expected = estimate_proportion(right.astype(float), np.ones(len(rows)), _select_groups(classifier, rows))
        print(f"Cross-validated accuracy of this classifier: {_format_accuracy(expected)}")
        print(f"  ({EXPLANATIONS['fit']})")
    else:
        print("No class has photographs of two groups: the accuracy is unknown and probabilities are not calibrated")
    if classifier.calibrated_:
        print(f"Probabilities are calibrated on these predictions, temperature {classifier.temperature_:.3g}")
    if classifier.rejection_ is not None:
        print(f'Photographs that score below {classifier.rejection_.threshold:.3g} are "{classifier.unknown}":')
        _print_price(RefusalPrice.estimate(classifier.fitted_, classifier.rejection_), config)
    print(f"written: {config.out}")
    return classifier


def predict_folder(config: PredictPhotographsConfig) -> list[Prediction]:
    """Predict each photograph, write the predictions and print a summary; unreadable photographs are skipped."""
    check_writable(config.csv, config.html, inputs=[config.model])
    classifier = FewShotClassifier.load(config.model)
    paths, unread = list_photographs(Path(config.photos))
    kept, contents, bad = [], [], {}
    for start in range(0, len(paths), 64):
        chunk = paths[start : start + 64]
        pixels, problems = classifier.inputs_.read(chunk, start)
        bad |= problems
        good = [i for i in range(len(chunk)) if start + i not in problems]
        kept += [chunk[i] for i in good]
        if good:
            contents.append(classifier.encoder_.compute_content(pixels[good]))
    for problem in (*bad.values(), *([unread] if unread else [])):
        logger.warning("left out: %s", problem)
    if not kept:
        raise DataError(f"{config.photos}: none of its photographs can be read ({len(paths)} tried)")
    names = [str(name) for name in classifier.classes_]
    with TemporaryDirectory() as folder:
        pictures = write_support_pictures(classifier, Path(folder))
        answers = predict(classifier, Path(config.photos), kept, torch.cat(contents), pictures, config.coverage)
        return _write_answers(classifier, config, answers, names, len(bad))


def _write_answers(
    classifier: FewShotClassifier,
    config: PredictPhotographsConfig,
    predictions: list[Prediction],
    names: list[str],
    n_bad: int,
) -> list[Prediction]:
    """Write the predictions to the files asked for, else print them, and print a summary."""
    known = [p.right for p in predictions if p.truth is not None]
    accuracy = estimate_proportion(np.array(known, float), np.ones(len(known))) if known else None
    failed = None
    try:
        if config.csv:
            write_csv(config.csv, predictions, names)
        if config.html:
            write_predictions(config.html, predictions, names, _collect_facts(classifier, config), accuracy)
    except OutputError as error:
        failed = error
    if failed or not (config.csv or config.html):
        for p in predictions:
            print(f"{visible_text(p.path)}\t{visible_text(p.answer)}\t{p.sure:.3f}")
    if failed:
        raise failed
    written = [path for path in (config.csv, config.html) if path]
    none = f"{sum(p.rejected for p in predictions)} {visible_text(classifier.unknown)}"
    print(f"{format_count(len(predictions), 'photograph')}, {n_bad} unreadable, {none}")
    if accuracy:
        print(f"right: {_format_accuracy(accuracy)}")
    if written:
        print(f"written: {', '.join(written)}")
    return predictions


def check_support(config: CheckPhotographsConfig) -> None:
    """Report what to mend in a folder and the accuracy that it allows; an unusable folder gets no estimate."""
    check_writable(config.html, config.json)
    encoder = Encoder.create(config) if config.estimate else None
    input_px = encoder.method.backbone.input_px if encoder else config.size_px or 224
    check = check_folder(config.support, config.groups, input_px)
    print(check.as_text())
    if config.json:
        write_whole(config.json, format_json_by_line(check.as_dict(), "findings"))
    estimate: dict[str, Any] = {}
    if encoder:
        try:
            estimate = _estimate_accuracy(encoder, config)
        except DataError as error:
            print(f"No estimate of the accuracy: {error}")
    if config.html:
        write_check(config.html, check, **estimate)
        print(f"written: {config.html}")


def _estimate_accuracy(encoder: Encoder, config: CheckPhotographsConfig) -> dict[str, Any]:
    """Estimate and print the accuracy, also against the number of photographs; returns arguments of `write_check`."""
    if not encoder.method.uses_features:
        raise DataError(f"it needs a method that works on features, which {config.method} does not")
    files = _keep_readable(_list_files(config))
    names, labels = np.unique([file.class_name for file in files], return_inverse=True)
    groups = None if config.groups is None else [file.group for file in files]
    support = Support.gather(encoder.encode([file.path for file in files]), labels, check_groups(groups))
    known = (encoder.method.head, support.content.flatten(1), labels, support.independent)
    estimate, curve = predict_left_out(*known, len(names)), measure_shots_curve(*known)
    law = extrapolate(curve)
    print(f"Leave-one-out accuracy: {_format_accuracy(estimate.overall)}")
    print(f"  ({EXPLANATIONS['check']})")
    print("Accuracy by the number of photographs, every class having the same number:")
    for shots, point in zip(curve.shots, curve.points, strict=True):
        print(f"  with {format_count(shots, 'photograph')} a class: {_format_accuracy(point)}")
    for line in dict.fromkeys((law.sentence, *(answer.sentence for answer in law.answers))):
        print(f"  {line}")
    if len(names) > 2:
        asked = config if config.refuses else RefusalOptions(false_accept_rate=DEFAULT_ACCEPT)
        fitted = fit(encoder, support, len(names))
        print('If photographs of no class are to be answered "none of these" ' + asked.describe_refusals() + ":")
        _print_price(RefusalPrice.estimate(fitted, Rejection.learn(fitted, asked)), asked)
    facts = [("method", encoder.plan.options.method), ("backbone", encoder.plan.options.backbone)]
    return {
        "estimate": estimate, "labels": labels, "class_names": names.tolist(), "curve": curve, "law": law,
        "facts": facts,
    }  # fmt: skip


def _print_price(price: RefusalPrice, asked: RefusalOptions) -> None:
    for line in price.describe(asked):
        print(f"  {line}")


def list_photographs(place: Path) -> tuple[list[Path], str]:
    """List the photographs of a folder and its subfolders, or the one file, and describe those of unread formats."""
    if not place.is_dir():
        if not place.exists():
            raise DataError(f"there is neither a photograph nor a folder {place}")
        return [place], ""
    found, others = list_image_files(place)
    unread = count_unread(path.name for path in others)
    if not found:
        raise DataError(f"{place}: no photograph in it" + (f" that can be read, but {unread}" if unread else ""))
    return found, unread


def _fit(classifier: FewShotClassifier, config: PhotographsConfig) -> None:
    files = _keep_readable(_list_files(config)) if config.skip_bad_images else _list_files(config)
    paths, labels = [file.path for file in files], [file.class_name for file in files]
    classifier.fit(paths, labels, None if config.groups is None else [file.group for file in files])


def _list_files(config: PhotographsConfig) -> list[ImageFile]:
    root = Path(config.support)
    return assign_groups(root, list_class_files(root), config.groups)


def _keep_readable(files: list[ImageFile]) -> list[ImageFile]:
    """Keep the files that decode; the others are named in warnings."""
    reader, bad = Reader(3, 8), {}
    for start in range(0, len(files), 256):
        bad |= reader.read([file.path for file in files[start : start + 256]], start)[1]
    for problem in bad.values():
        logger.warning("left out: %s", problem)
    kept = [file for number, file in enumerate(files) if number not in bad]
    lost = sorted({file.class_name for file in files} - {file.class_name for file in kept})
    if lost:
        raise DataError(f"no photograph of {list_few(lost)} can be read; mend or remove the class")
    return kept


def _collect_facts(classifier: FewShotClassifier, config: PredictPhotographsConfig) -> PageFacts:
    options, rejection = classifier.encoder_.plan.options, classifier.rejection_
    return PageFacts(
        model_file=Path(config.model).name,
        method=options.method,
        backbone=options.backbone,
        n_support=len(classifier.support_),
        temperature=classifier.temperature_ if classifier.calibrated_ else None,
        threshold=None if rejection is None else rejection.threshold,
    )


def _select_groups(classifier: FewShotClassifier, rows: np.ndarray) -> np.ndarray | None:
    groups = classifier.support_.independent
    return None if groups is None else groups[rows]


def _format_accuracy(p: Proportion) -> str:
    count = f"{format_count(p.n_images, 'photograph')} of {format_count(p.n_groups, 'group')}"
    return f"{p.mean:.1%} (95% interval {p.low:.1%} to {p.high:.1%}, {count})"
