"""`fewshot suggest`: which photographs to label next."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fewshot.config import SuggestPhotographsConfig
from fewshot.datasets.folder import assign_groups
from fewshot.errors import ConfigError
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.images.listing import ImageFile
from fewshot.photographs.answers import predict, write_support_pictures
from fewshot.photographs.corrections import HEADER
from fewshot.photographs.encoding import encode_photographs
from fewshot.photographs.pages.predictions import Prediction
from fewshot.photographs.pages.predictions_page import write_predictions
from fewshot.photographs.suggestions import choose_next, measure_likeness
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import check_writable, write_whole
from fewshot.runtime.terminal import visible_text


def suggest_photographs(config: SuggestPhotographsConfig) -> list[Prediction]:
    """Choose the photographs to label next, and write or print them, the most helpful first."""
    check_writable(config.csv, config.html, inputs=[str(config.model)])
    classifier = FewShotClassifier.load(str(config.model))
    method = classifier.encoder_.method
    if not method.uses_features:
        raise ConfigError(f"{method.label} has no features by which to choose photographs")
    asked = encode_photographs(classifier, Path(config.photos))
    groups = None
    if config.groups is not None:
        files = [ImageFile("", path) for path in asked.paths]
        groups = [str(file.group) for file in assign_groups(Path(config.photos), files, config.groups)]
    features, known = asked.content.flatten(1), classifier.support_.content.flatten(1)
    chosen = choose_next(
        measure_likeness(method, features),
        measure_likeness(method, features, known),
        config.n_suggestions,
        groups,
    )
    picked = asked._replace(paths=[asked.paths[i] for i in chosen], content=asked.content[chosen])
    names = [str(name) for name in classifier.classes_]
    with TemporaryDirectory() as folder:
        found = predict(classifier, picked, write_support_pictures(classifier, Path(folder)))
        found = [replace(p, truth=None) for p in found]  # a folder's name is no label here
        for p in found:  # before files are written, which may fail
            print(f"{visible_text(p.path)}\tlooks like {visible_text(p.predicted)} ({p.sure:.0%})")
        if config.csv:
            write_whole(config.csv, _format_csv(found))
        if config.html:
            title = f"{format_count(len(found), 'photograph')} to label next"
            write_predictions(config.html, found, names, title=title, keep_order=True)
    written = [path for path in (config.csv, config.html) if path]
    if written:
        print(f"written: {', '.join(written)}")
    return found


def _format_csv(found: list[Prediction]) -> str:
    """Format lines as `fewshot fit --corrections` reads them, with the predicted class, which may have to be mended."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerows([HEADER, *((p.path, p.predicted) for p in found)])
    return buffer.getvalue().encode("utf-8", "backslashreplace").decode()
