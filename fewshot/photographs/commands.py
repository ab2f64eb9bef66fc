"""The commands fit and predict: fit a classifier to a folder, predict photographs."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fewshot.config import FitPhotographsConfig, PhotographsConfig, PredictPhotographsConfig
from fewshot.config.classifier import AnswerOptions, options_of
from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError, OutputError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.reading import Reader
from fewshot.images.listing import ImageFile, list_class_files, list_few
from fewshot.photographs.answers import predict, write_support_pictures
from fewshot.photographs.corrections import apply_corrections
from fewshot.photographs.drift.noting import note_predictions, open_record
from fewshot.photographs.encoding import encode_photographs
from fewshot.photographs.inspection.intervals import describe_proportion, estimate_proportion
from fewshot.photographs.pages.predictions import PageFacts, Prediction, write_csv
from fewshot.photographs.pages.predictions_page import write_predictions
from fewshot.photographs.refusals import RefusalPrice, print_price
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import check_writable
from fewshot.runtime.terminal import visible_text

# `check` and `fit` estimate accuracy in two ways, and print what each means.
EXPLANATION = (
    "photographs, or groups with --groups, are dealt to at most ten folds, and each fold is predicted from the others; "
    "check leaves out one at a time and balances the classes, so its accuracy can differ"
)
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
        print(
            f"Cross-validated accuracy of this classifier: {describe_proportion(expected, config.groups is not None)}"
        )
        print(f"  ({EXPLANATION})")
    else:
        print("No class has photographs of two groups: the accuracy is unknown and probabilities are not calibrated")
    if classifier.calibrated_:
        print(f"Probabilities are calibrated on these predictions, temperature {classifier.temperature_:.3g}")
    if classifier.rejection_ is not None:
        print(f'Photographs that score below {classifier.rejection_.threshold:.3g} are "{classifier.unknown}":')
        print_price(RefusalPrice.estimate(classifier.fitted_, classifier.rejection_), config)
    print(f"written: {config.out}")
    return classifier


def predict_folder(config: PredictPhotographsConfig) -> list[Prediction]:
    """Predict each photograph, write the predictions and print a summary; unreadable photographs are skipped."""
    check_writable(config.csv, config.html, config.watch, inputs=[config.model])
    classifier = FewShotClassifier.load(config.model)
    record = None if config.watch is None else open_record(classifier, config.watch)
    names = [str(name) for name in classifier.classes_]
    with TemporaryDirectory() as folder:
        n_support = len(classifier.support_)  # whose pictures a page alone shows
        pictures = write_support_pictures(classifier, Path(folder)) if config.html else [Path(folder)] * n_support
        asked = encode_photographs(classifier, Path(config.photos))
        answers, failed = predict(classifier, asked, pictures, config.coverage), None
        try:
            if record is not None:
                note_predictions(classifier, record, asked.content, answers)
        except OutputError as error:  # the answers are worth more than the record
            failed = error
        _write_answers(classifier, config, answers, names, asked.n_bad)
    if failed is not None:
        raise failed
    return answers


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
        print(f"right: {describe_proportion(accuracy, False)}")
    if written:
        print(f"written: {', '.join(written)}")
    return predictions


def _fit(classifier: FewShotClassifier, config: FitPhotographsConfig) -> None:
    files = _keep_readable(_list_files(config)) if config.skip_bad_images else _list_files(config)
    tables = [Path(table) for table in config.corrections]
    given = [Path(photos) for photos in config.photos] or [table.parent for table in tables]
    for table, photos in zip(tables, given * len(tables) if len(given) == 1 else given, strict=True):
        changed = apply_corrections(files, Path(config.support), table, photos, config.groups)
        print(changed.sentence)
        files = changed.files
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
