"""The work of `fewshot export`: writes the folder, and compares it with the classifier on photographs."""

import logging
from pathlib import Path

import numpy as np

from fewshot.config import ExportConfig
from fewshot.config.classifier import ClassifierOptions
from fewshot.datasets.folder import assign_groups
from fewshot.errors import OutputError
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.storage import read_provenance
from fewshot.images.listing import list_class_files
from fewshot.photographs.inspection.intervals import estimate_proportion
from fewshot.photographs.serving.card import Rows, format_share, write_card, write_run_card
from fewshot.photographs.serving.export import describe_method, write_predictor, write_untaught
from fewshot.photographs.serving.folder import ENCODER
from fewshot.photographs.serving.predictor import Predictor
from fewshot.runtime.files import check_writable, write_whole
from fewshot.runtime.precision import resolve
from fewshot.runtime.provenance import hash_weights

logger = logging.getLogger(__name__)
UNKNOWN = "none of these"


def export(config: ExportConfig) -> None:
    """Write the folder, its card, and say what it holds."""
    folder = Path(config.out)
    check_writable(folder / ENCODER)
    try:
        (_export_classifier if config.run_dir is None else _export_run)(config, folder)
    except OSError as error:
        if error.filename is not None:  # of another file
            raise
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}): export it again") from error
    n_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    print(f"written: {folder} ({n_bytes / 1e6:.1f} MB); python {folder / 'predictor.py'} photo.jpg")


def _export_classifier(config: ExportConfig, folder: Path) -> None:
    assert config.model is not None, "`ExportConfig` checks it"
    classifier = FewShotClassifier.load(config.model, device="cpu")
    method = write_predictor(classifier, folder, config.int8)
    measured = [] if config.photos is None else measure_folder(classifier, folder, config.photos, config.groups)
    fixed = describe_method(classifier)[1]
    card = write_card(classifier, method, fixed, read_provenance(Path(config.model)), measured)
    write_whole(folder / "card.md", card)
    for what, value in measured:
        print(f"{what}: {value}")


def measure_folder(classifier: FewShotClassifier, folder: Path, photos: str, groups: str | None) -> Rows:
    """Compare the exported folder's answers with the classifier's on photographs of known classes."""
    root = Path(photos)
    files = assign_groups(root, list_class_files(root), groups)
    paths, truth = [file.path for file in files], np.array([file.class_name for file in files])
    units = None if groups is None else np.array([file.group for file in files])
    predictor = Predictor(folder)
    pixels, bad = predictor.read(paths)
    for sentence in bad.values():
        logger.warning("left out: %s", sentence)
    kept = np.array([number for number in range(len(paths)) if number not in bad])
    found = predictor.answer(predictor.encode(pixels[kept])).probabilities
    expected = classifier.predict_proba([paths[number] for number in kept])
    names = np.array([str(name) for name in classifier.classes_])
    of_groups = None if units is None else units[kept]
    rows = [("photographs that the files were tried on", f"{len(kept)} of {root.name}")]
    for what, probabilities in (("right, exported files", found), ("right, the classifier itself", expected)):
        right = (names[probabilities.argmax(1)] == truth[kept]).astype(float)
        rows.append((what, format_share(estimate_proportion(right, np.ones(len(right)), of_groups))))
    same = float((found.argmax(1) == expected.argmax(1)).mean())
    rows.append(("same class", f"{same:.1%}; probabilities differ by {np.abs(found - expected).max():.1e} at most"))
    encoder = classifier.encoder_
    precision = resolve(encoder.precision, encoder.device)
    if precision != "float32":
        rows.append(
            ("precision", f"the classifier computes in {precision} here, the files in float32: fit with "
             "--precision float32 where both are to answer the same")
        )  # fmt: skip
    return rows


def _export_run(config: ExportConfig, folder: Path) -> None:
    asked = ClassifierOptions(run_dir=config.run_dir, device="cpu", precision="float32")
    encoder = Encoder.create(asked)
    method = write_untaught(encoder, UNKNOWN, folder, config.int8)
    reader, options = encoder.reader, encoder.plan.options
    facts = [
        ("method", f"{options.method}, {options.method_options or 'no options'}"),
        ("network", f"{options.backbone}, weights {hash_weights(encoder.method)}"),
        ("images", f"{reader.size_px} x {reader.size_px} px, {reader.channels} channels, resize {reader.resize}"),
        ("run", Path(str(config.run_dir)).name),
        ("size of the network", f"{(folder / ENCODER).stat().st_size / 1e6:.1f} MB"),
    ]
    write_whole(folder / "card.md", write_run_card(method, facts))
