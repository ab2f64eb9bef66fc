"""What `scripts/classify.py` does: fit a classifier to a folder, ask it about photographs, check a folder."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewshot.config import CheckPhotographsConfig, FitPhotographsConfig, PhotographsConfig, PredictPhotographsConfig
from fewshot.datasets.folder import grouped
from fewshot.errors import DataError
from fewshot.estimator.encoder import Inputs
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.reading import read_images
from fewshot.images.listing import ImageFile, class_files, few, is_image, natural, nfc, visible
from fewshot.photographs import (
    Neighbour,
    PageFacts,
    Prediction,
    check_folder,
    extrapolate,
    leave_one_group_out,
    shots_curve,
    write_check,
    write_csv,
    write_predictions,
)
from fewshot.photographs.inspection.intervals import Proportion, proportion
from fewshot.runtime.files import json_by_line, write_whole

N_NEIGHBOURS = 3
logger = logging.getLogger(__name__)


def fit_folder(config: FitPhotographsConfig) -> FewShotClassifier:
    """The classifier of a folder, written to its file; says what is to be expected of it."""
    classifier = FewShotClassifier(**config.options(), false_accept_rate=config.false_accept_rate)
    _fit(classifier, config)
    classifier.save(config.out)
    counts = np.bincount(classifier.support_.labels)
    print(f"{len(counts)} classes, {len(classifier.support_)} photographs ({counts.min()} to {counts.max()} a class)")
    probabilities, rows = classifier.held_out()
    if len(rows):
        right = probabilities.argmax(1) == classifier.support_.labels[rows]
        expected = proportion(right.astype(float), np.ones(len(rows)), _groups_of(classifier, rows))
        print(f"right on photographs left out: {_percent(expected)}; temperature {classifier.temperature_:.3g}")
    else:
        print("no class has photographs of two groups: the accuracy is unknown and probabilities are not calibrated")
    if classifier.rejection_ is not None:
        print(f'"{classifier.unknown}" below {classifier.rejection_.threshold:.3g}')
    print(f"written: {config.out}")
    return classifier


def predict_folder(config: PredictPhotographsConfig) -> list[Prediction]:
    """Answers for each photograph, written and summed up; unreadable ones are listed and left out."""
    classifier = FewShotClassifier.load(config.model)
    paths = photographs(Path(config.photos))
    kept, contents, bad = [], [], {}
    for start in range(0, len(paths), 64):
        chunk = paths[start : start + 64]
        pixels, problems = classifier.inputs_.read(chunk, start)
        bad |= problems
        good = [i for i in range(len(chunk)) if start + i not in problems]
        kept += [chunk[i] for i in good]
        if good:
            contents.append(classifier.inputs_.content(pixels[good]))
    for problem in bad.values():
        logger.warning("left out: %s", problem)
    if not kept:
        raise DataError(f"{config.photos}: none of its {len(paths)} photographs can be read")
    names = [str(name) for name in classifier.classes_]
    with TemporaryDirectory() as folder:
        pictures = _support_pictures(classifier, Path(folder))
        predictions = _predictions(classifier, Path(config.photos), kept, torch.cat(contents), pictures)
        return _told(classifier, config, predictions, names, len(bad))


def _told(
    classifier: FewShotClassifier,
    config: PredictPhotographsConfig,
    predictions: list[Prediction],
    names: list[str],
    n_bad: int,
) -> list[Prediction]:
    """Write and print the answers."""
    known = [p.right for p in predictions if p.truth is not None]
    accuracy = proportion(np.array(known, float), np.ones(len(known))) if known else None
    if config.csv:
        write_csv(config.csv, predictions, names)
    if config.html:
        write_predictions(config.html, predictions, names, _facts(classifier, config), accuracy)
    if not config.csv and not config.html:
        for p in predictions:
            print(f"{p.path}\t{p.answer}\t{p.sure:.3f}")
    written = [path for path in (config.csv, config.html) if path]
    print(f"{len(predictions)} photographs, {n_bad} unreadable, {sum(p.rejected for p in predictions)} none of these")
    if accuracy:
        print(f"right: {_percent(accuracy)}")
    if written:
        print(f"written: {', '.join(written)}")
    return predictions


def check_support(config: CheckPhotographsConfig) -> None:
    """What is to be mended in a folder, and what accuracy it allows; a folder that is not ready has no estimate."""
    inputs = Inputs(FewShotClassifier(**config.options())) if config.estimate else None
    seen_px = inputs.method.backbone.input_px if inputs else config.size_px or 224
    check = check_folder(config.support, config.groups, seen_px)
    print(check.as_text())
    if config.json:
        write_whole(config.json, json_by_line(check.as_dict(), "findings"))
    estimate: dict[str, Any] = {}
    if inputs:
        try:
            estimate = _estimate(inputs, config)
        except DataError as error:
            print(f"No estimate of the accuracy: {error}")
    if config.html:
        write_check(config.html, check, **estimate)
        print(f"written: {config.html}")


def _estimate(inputs: Inputs, config: CheckPhotographsConfig) -> dict[str, Any]:
    """Accuracy on photographs left out and against their number, printed, and as `write_check` takes them."""
    if not inputs.method.uses_features:
        raise DataError(f"it needs a method that works from features, not {config.method}")
    files = _readable(_files(config))
    names, labels = np.unique([file.class_name for file in files], return_inverse=True)
    groups = None if config.groups is None else [file.group for file in files]
    support = inputs.support([file.path for file in files], labels, groups)
    seen = (inputs.method.head, support.content.flatten(1), labels, support.independent)
    estimate, curve = leave_one_group_out(*seen, len(names)), shots_curve(*seen)
    law = extrapolate(curve)
    print(f"Accuracy on photographs left out: {_percent(estimate.overall)}")
    for shots, point in zip(curve.shots, curve.points, strict=True):
        print(f"  with {shots} photographs a class: {_percent(point)}")
    for line in dict.fromkeys((law.sentence, *(answer.sentence for answer in law.answers))):
        print(f"  {line}")
    facts = [("method", inputs.plan.method), ("backbone", inputs.plan.backbone)]
    return {
        "estimate": estimate, "labels": labels, "class_names": names.tolist(), "curve": curve, "law": law,
        "facts": facts,
    }  # fmt: skip


def photographs(place: Path) -> list[Path]:
    """The photographs of a folder and of the folders in it, in natural order, or the one file."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"there is neither a photograph nor a folder {place}")
    found, waiting = [], [place]
    while waiting:
        entries = visible(waiting.pop(0))
        waiting += [entry for entry in entries if entry.is_dir()]
        found += [entry for entry in entries if not entry.is_dir() and is_image(entry.name)]
    if not found:
        raise DataError(f"{place}: no photograph in it")
    return sorted(found, key=lambda path: natural(str(path)))


def _fit(classifier: FewShotClassifier, config: PhotographsConfig) -> None:
    files = _readable(_files(config)) if config.skip_bad_images else _files(config)
    paths, labels = [file.path for file in files], [file.class_name for file in files]
    classifier.fit(paths, labels, None if config.groups is None else [file.group for file in files])


def _files(config: PhotographsConfig) -> list[ImageFile]:
    root = Path(config.support)
    return grouped(root, class_files(root), config.groups)


def _readable(files: list[ImageFile]) -> list[ImageFile]:
    """The files that are images; the others are listed."""
    bad = {}
    for start in range(0, len(files), 256):
        bad |= read_images([file.path for file in files[start : start + 256]], 8, first=start)[1]
    for problem in bad.values():
        logger.warning("left out: %s", problem)
    kept = [file for number, file in enumerate(files) if number not in bad]
    lost = sorted({file.class_name for file in files} - {file.class_name for file in kept})
    if lost:
        raise DataError(f"no photograph of {few(lost)} can be read; mend or remove the class")
    return kept


def _support_pictures(classifier: FewShotClassifier, folder: Path) -> list[Path]:
    """A picture of each support image: its file, or where that is gone the thumbnail, written into `folder`."""
    support, pictures = classifier.support_, []
    for row, name in enumerate(support.names):
        path = Path(name)
        if support.thumbnails is not None and not path.is_file():
            path = folder / str(row) / f"{path.stem}.png"
            path.parent.mkdir()
            Image.fromarray(support.thumbnails[row].permute(1, 2, 0).numpy()).save(path)
        pictures.append(path)
    return pictures


def _predictions(
    classifier: FewShotClassifier, root: Path, paths: list[Path], content: Tensor, pictures: list[Path]
) -> list[Prediction]:
    support, names = classifier.support_, [str(name) for name in classifier.classes_]
    fitted, rejection = classifier.fitted_, classifier.rejection_
    probabilities = classifier.probabilities(fitted.logits(content))
    accepted = np.ones(len(paths), bool) if rejection is None else rejection.accepts(fitted, support, content)
    method = classifier.inputs_.method
    n_shown = min(N_NEIGHBOURS, len(support)) if method.uses_features else 0  # not by bare pixels
    nearest = method.similarity(support.content.float(), content.float()).topk(n_shown, 1)
    predictions = []
    for i, path in enumerate(paths):
        neighbours = [
            Neighbour(pictures[row], names[support.labels[row]], float(share))
            for share, row in zip(nearest.values[i], nearest.indices[i].tolist(), strict=True)
        ]
        shown = path.relative_to(root).as_posix() if root.is_dir() else path.name
        folder = nfc(path.parent.name)
        truth = folder if path.parent != root and folder in names else None
        shares = dict(zip(names, probabilities[i].tolist(), strict=True))
        best = names[int(probabilities[i].argmax())]
        predictions.append(Prediction(shown, path, best, shares, not accepted[i], truth, neighbours))
    return predictions


def _facts(classifier: FewShotClassifier, config: PredictPhotographsConfig) -> PageFacts:
    plan, rejection = classifier.inputs_.plan, classifier.rejection_
    return PageFacts(
        model_file=Path(config.model).name,
        method=plan.method,
        backbone=plan.backbone,
        n_support=len(classifier.support_),
        temperature=classifier.temperature_ if classifier.calibrated_ else None,
        threshold=None if rejection is None else rejection.threshold,
    )


def _groups_of(classifier: FewShotClassifier, rows: np.ndarray) -> np.ndarray | None:
    groups = classifier.support_.independent
    return None if groups is None else groups[rows]


def _percent(p: Proportion) -> str:
    return f"{p.mean:.1%} (95% interval {p.low:.1%} to {p.high:.1%}, {p.n_images} photographs of {p.n_groups} groups)"
