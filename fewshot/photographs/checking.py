"""`fewshot check`: what is to be mended in a folder of photographs, and what accuracy they allow."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fewshot.config import CheckPhotographsConfig
from fewshot.config.classifier import RefusalOptions
from fewshot.datasets.folder import assign_groups
from fewshot.errors import DataError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.fitting import fit
from fewshot.estimator.reading import ImageBatch
from fewshot.estimator.rejection import Rejection
from fewshot.estimator.support import Support, check_groups
from fewshot.images.listing import ImageFile, list_class_folders, normalise_text
from fewshot.photographs.inspection.check import FolderCheck, check_folder
from fewshot.photographs.inspection.extrapolation import extrapolate
from fewshot.photographs.inspection.findings import SEVERITIES
from fewshot.photographs.inspection.intervals import describe_proportion
from fewshot.photographs.inspection.learning_curve import measure_shots_curve, predict_left_out
from fewshot.photographs.inspection.suspects import describe_suspects, find_suspects
from fewshot.photographs.pages.check_page import write_check
from fewshot.photographs.refusals import RefusalPrice, print_price
from fewshot.photographs.suggestions import measure_likeness
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import check_writable, format_json_by_line, write_whole
from fewshot.runtime.terminal import visible_text

EXPLANATION = (
    "each photograph, or group with --groups, is predicted from all others but one of each other class, so that the "
    "classes stay balanced"
)
DEFAULT_ACCEPT = 0.1  # what `check` tells the price of, where no other way to refuse is asked for
STEP = 32  # photographs between two steps of the bar


def check_support(config: CheckPhotographsConfig) -> None:
    """Say what is to be mended in a folder, and what accuracy it allows.

    The accuracy is estimated from what can be learnt from: without unreadable photographs, pictures that lie in two
    classes, and classes of fewer than two photographs. Where too little remains there is no estimate, but a page.
    """
    check_writable(config.html, config.json)
    encoder = Encoder.create(config) if config.estimate else None
    seen_px = encoder.method.backbone.input_px if encoder else config.size_px or 224
    check = check_folder(config.support, config.groups, seen_px)
    print(check.as_text())
    estimate: dict[str, Any] = {}
    if encoder:
        try:
            estimate, check = _estimate_accuracy(encoder, config, check)
        except DataError as error:
            print(f"No estimate of the accuracy: {visible_text(error)}")
    if config.json:
        write_whole(config.json, format_json_by_line(check.as_dict(), "findings"))
    if config.html:
        write_check(config.html, check, **estimate)
        print(f"written: {config.html}")


def list_usable(root: Path, groups: str | None, check: FolderCheck) -> list[ImageFile]:
    """The photographs of `check` that an estimate can use: of classes with two or more that are right in themselves."""
    folders = list_class_folders(root)
    files = [ImageFile(normalise_text(folder.name), path) for folder, paths in folders.items() for path in paths]
    files = [file for file in files if file.path.relative_to(root).as_posix() not in check.unusable]
    counts = Counter(file.class_name for file in files)
    kept = assign_groups(root, [file for file in files if counts[file.class_name] > 1], groups)
    if len({file.class_name for file in kept}) < 2:
        raise DataError("it needs two classes of two photographs or more")
    return kept


def embed_photographs(encoder: Encoder, paths: list[Path]) -> list[ImageBatch]:
    """Compute the features of each photograph, with a progress bar on the terminal."""
    batches = []
    with tqdm(total=len(paths), desc="looking at photographs", unit="", delay=1, leave=False) as bar:
        for start in range(0, len(paths), STEP):
            batches += encoder.encode(paths[start : start + STEP])
            bar.update(min(STEP, len(paths) - start))
    return batches


def _estimate_accuracy(
    encoder: Encoder, config: CheckPhotographsConfig, check: FolderCheck
) -> tuple[dict[str, Any], FolderCheck]:
    """Accuracy on photographs left out and against their number, printed and as `write_check` takes them.

    And the check with the photographs whose class looks wrong.
    """
    if not encoder.method.uses_features:
        raise DataError(f"it needs a method that works on features, which {config.method} does not")
    files = list_usable(Path(config.support), config.groups, check)
    names, labels = np.unique([file.class_name for file in files], return_inverse=True)
    groups = None if config.groups is None else [file.group for file in files]
    batches = embed_photographs(encoder, [file.path for file in files])
    support = Support.gather(batches, labels, check_groups(groups))
    features = support.content.flatten(1)
    seen = (encoder.method.predict_among, features, labels, support.independent)
    estimate = predict_left_out(*seen, len(names))
    suspects = find_suspects(estimate, labels, measure_likeness(encoder.method, features), support.independent)
    shown = [file.path.relative_to(config.support).as_posix() for file in files]
    found = describe_suspects(suspects, shown, names.tolist())
    for finding in found:
        print("\n".join(visible_text(line) for line in finding.as_lines()))
    how = "Leave-one-out" if estimate.n_parts is None else f"Cross-validated ({estimate.n_parts} parts)"
    print(f"{how} accuracy: {describe_proportion(estimate.overall, groups is not None)}")
    print(f"  ({EXPLANATION})")
    curve = measure_shots_curve(*seen)
    print("Accuracy by the number of photographs, every class having the same number:")
    law = extrapolate(curve)
    for shots, point in zip(curve.shots, curve.points, strict=True):
        print(f"  with {format_count(shots, 'photograph')} a class: {describe_proportion(point, groups is not None)}")
    for line in dict.fromkeys((law.sentence, *(answer.sentence for answer in law.answers))):
        print(f"  {line}")
    if len(names) > 2:
        asked = config if config.refuses else RefusalOptions(false_accept_rate=DEFAULT_ACCEPT)
        fitted = fit(encoder, support, len(names))
        print('If photographs of no class are to be answered "none of these" ' + asked.describe_refusals() + ":")
        print_price(RefusalPrice.estimate(fitted, Rejection.learn(fitted, asked)), asked)
    absent = sorted(set(check.class_counts) - set(names.tolist()))
    facts = [("method", encoder.plan.options.method), ("backbone", encoder.plan.options.backbone)]
    told = {
        "estimate": estimate, "labels": labels, "class_names": names.tolist(), "curve": curve, "law": law,
        "facts": facts, "absent": absent,
    }  # fmt: skip
    findings = sorted((*found, *check.findings), key=lambda finding: SEVERITIES.index(finding.severity))
    return told, replace(check, findings=tuple(findings))
