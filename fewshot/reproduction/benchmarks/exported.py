"""Exported classifiers in an environment of their own: the same answers on odd files, and what they cost there."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.prediction_sets import choose_sets
from fewshot.methods import create_method
from fewshot.photographs.serving.encoder_graph import quantise
from fewshot.photographs.serving.export import REQUIREMENTS, write_predictor
from fewshot.photographs.serving.folder import ENCODER
from fewshot.reproduction.benchmarks.adaptshot import VERSION, measure_beside_adaptshot, measure_environment_mb
from fewshot.reproduction.benchmarks.odd_files import PHOTO_PX, Coins, write_coins

N_SHOT, N_FILES = 4, 200
COVERAGE = 0.9  # of prediction sets
NETWORKS: dict[str, dict[str, Any]] = {
    "224 px": {},
    "circle, 8 turns, colour, 128 px": {
        "size_px": 128, "find_circle": True, "rotation_invariant": 8, "views": {"colour": 0.3},
    },
    "circle, 24 turns, rings, 128 px": {
        "size_px": 128, "find_circle": True, "rotation_invariant": 24, "views": {"rings": "blocks.3"},
    },
}  # fmt: skip
HEADS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "224 px": [
        ("baseline", {"solver": "logistic", "c": 10.0, "normalize": True}), ("baseline", {"solver": "faithful"}),
        ("baseline++", {"solver": "logistic"}), ("protonet", {"temperature": 64.0}),
        ("simpleshot", {"transform": "L2N"}),
        ("meta-baseline", {}), ("matching", {}), ("nearest", {}), ("nearest", {"k": 3}), ("r2d2", {}), ("gda", {}),
    ],
    "circle, 8 turns, colour, 128 px": [("baseline", {"solver": "logistic", "c": 10.0})],
    "circle, 24 turns, rings, 128 px": [("aligned", {})],
}  # fmt: skip
# What is run where neither torch nor fewshot is: answers of each head on one pass of the network, times, memory.
PROGRAM = """
import json, sys, time
start = time.perf_counter(), time.process_time()
asked = json.load(open(sys.argv[1]))
sys.path.insert(0, asked["encoder"])
from predictor import Predictor
import numpy as np
for name in ("torch", "fewshot", "scipy"):
    assert name not in sys.modules
first = Predictor(asked["encoder"], n_threads=1)
first.predict([asked["photo"]])
facts = {"first_answer_s": time.perf_counter() - start[0], "first_answer_cpu_s": time.process_time() - start[1]}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
facts["peak_memory_mb"] = int(peak.split()[1]) * 1024 / 1e6
pixels, bad = first.read(asked["files"])
assert not bad, bad
first.encode(pixels[:3])
cpu, wall = time.process_time(), time.perf_counter()
features = first.encode(pixels)
facts["encoded_per_cpu_s"] = len(pixels) / (time.process_time() - cpu)
facts["encoded_per_s"] = len(pixels) / (time.perf_counter() - wall)
said = {}
for i, folder in enumerate(asked["folders"]):
    predictor = Predictor(folder)
    a = predictor.answer(features, asked["coverage"])
    sets = [[name in chosen for name in predictor.classes] for chosen in a.sets]
    said |= {f"p{i}": a.probabilities, f"a{i}": a.accepted, f"s{i}": np.array(sets)}
np.savez(asked["out"], **said)
print(json.dumps(facts))
"""


def measure_exported(network: str, python: str = sys.executable) -> dict[str, dict[str, Any]]:
    """Compare each head on one network with its exported folder on 200 files, with weights of 32 and of 8 bits.

    The support is 4 euro coins a class, each of another photograph; the files are others, written in ten ways
    (`write_odd_files`). Both sides compute in float32 on one thread, but for the rows that say "bfloat16": there the
    classifier does not, and its exported folder does.

    Args:
        network: one of `NETWORKS`.
        python: an interpreter with numpy, onnxruntime and pillow.

    Returns:
        For each head the largest difference of a probability, shares of equal answers, refusals and sets, and of right
        answers; and costs.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            return _measure(network, python, Path(place))
    finally:
        torch.set_num_threads(threads)


def _measure(network: str, python: str, root: Path) -> dict[str, dict[str, Any]]:
    options = {"device": "cpu", "false_accept_rate": 0.1, **NETWORKS[network]}
    coins = write_coins(root, N_SHOT, N_FILES, odd=True)
    photo = root / "photo.jpg"
    Image.open(coins.asked[0]).convert("RGB").resize(PHOTO_PX).save(photo, quality=90)
    classifiers: dict[str, FewShotClassifier] = {}
    for method, method_options in HEADS[network]:
        classifier = FewShotClassifier(method=method, method_options=method_options, precision="float32", **options)
        one = next(iter(classifiers.values()), None)
        if one is None:
            classifier.fit(coins.support, coins.labels)
        else:  # the same network: features are not computed again
            classifier.learn(_with_head(classifier, one), one.classes_, one.support_)
        classifiers[f"{method} {method_options}"] = classifier
    name, (method, method_options) = f"{next(iter(classifiers))}, bfloat16", HEADS[network][0]
    half = FewShotClassifier(method=method, method_options=method_options, precision="bfloat16", **options)
    classifiers[name] = half.fit(coins.support, coins.labels)
    for number, classifier in enumerate(classifiers.values()):
        write_predictor(classifier, root / f"m{number}", encoder=root / "m0" / ENCODER if number else None)
    shutil.copytree(root / "m0", root / "int8")
    quantise(root / "m0" / ENCODER, root / "int8" / ENCODER)
    content, costs = _encode_singly(next(iter(classifiers.values())), coins.asked)
    rows: dict[str, dict[str, Any]] = {}
    for bits, encoder in ((32, root / "m0"), (8, root / "int8")):
        said, other = _ask(python, root, encoder, coins, photo, len(classifiers))
        other["encoder_mb"] = (encoder / ENCODER).stat().st_size / 1e6
        for number, (name, classifier) in enumerate(classifiers.items()):
            own = _encode_singly(classifier, coins.asked)[0] if classifier is half else content
            answers = said[f"p{number}"], said[f"a{number}"], said[f"s{number}"]
            rows[f"{name}, {bits} bits"] = _compare(classifier, own, answers, coins)
        rows[f"costs, {bits} bits"] = {**other, **costs}
    return rows


def _encode_singly(classifier: FewShotClassifier, files: list[Path]) -> tuple[Tensor, dict[str, float]]:
    """Encode photographs one by one, as they come to a server; also returns how many a second."""
    pixels, _ = classifier.inputs_.read(files)
    classifier.encoder_.compute_content(pixels[:3])
    cpu, wall = time.process_time(), time.perf_counter()
    parts = [classifier.encoder_.compute_content(pixels[i : i + 1]) for i in range(len(pixels))]
    costs = {
        "torch_encoded_per_cpu_s": len(parts) / (time.process_time() - cpu),
        "torch_encoded_per_s": len(parts) / (time.perf_counter() - wall),
    }
    return torch.cat(parts), costs


def _ask(
    python: str, root: Path, encoder: Path, coins: Coins, photo: Path, n_folders: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Ask the exported folders m0, m1, … about features by the network of the folder `encoder`."""
    (root / "asked.json").write_text(json.dumps({
        "encoder": str(encoder), "folders": [str(root / f"m{number}") for number in range(n_folders)],
        "files": [str(path) for path in coins.asked], "photo": str(photo), "out": str(root / "out.npz"),
        "coverage": COVERAGE,
    }))  # fmt: skip
    (root / "ask.py").write_text(PROGRAM)
    words = [python, "-I", str(root / "ask.py"), str(root / "asked.json")]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=root)
    with np.load(root / "out.npz") as said:
        return dict(said), json.loads(done.stdout)


def _compare(
    classifier: FewShotClassifier, content: Tensor, answers: tuple[np.ndarray, ...], coins: Coins
) -> dict[str, float]:
    """Compare the answers of a folder (probabilities, acceptance, sets) with those of its classifier."""
    probabilities, accepted, sets = answers
    expected = classifier.probabilities(classifier.fitted_.logits(content))
    rejection = classifier.rejection_
    assert rejection is not None, "a rate of false accepts was asked for"
    taken = rejection.accept(classifier.fitted_, content)
    bounds = classifier.set_scores_.find_bounds(COVERAGE, len(classifier.classes_))
    right = [(classifier.classes_[p.argmax(1)] == coins.truth).mean() for p in (expected, probabilities)]
    return {
        "largest_difference": float(np.abs(probabilities - expected).max()),
        "same_answers": float((probabilities.argmax(1) == expected.argmax(1)).mean()),
        "same_refusals": float((accepted == taken).mean()), "refused": float(1 - taken.mean()),
        "same_sets": float((sets == choose_sets(expected, bounds)).all(1).mean()),
        "right_torch": float(right[0]), "right_exported": float(right[1]),
    }  # fmt: skip


def _with_head(asked: FewShotClassifier, fitted: FewShotClassifier) -> Encoder:
    """The encoder of a fitted classifier with the head that another one asks for."""
    source = fitted.encoder_
    method = create_method(asked.method or "baseline", source.method.backbone, **(asked.method_options or {}))
    options = replace(source.plan.options, method=asked.method, method_options=asked.method_options)
    return Encoder(method.eval(), replace(source.plan, options=options))


def measure_all() -> dict[str, dict[str, Any]]:
    """All networks and heads in an environment that is made for them, then AdaptShot beside them."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = str(Path(place) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *REQUIREMENTS], check=True)
        rows: dict[str, dict[str, Any]] = {"environment": {"mb": measure_environment_mb(Path(place))}}
        for network in NETWORKS:
            rows |= {f"{network}: {head}": values for head, values in measure_exported(network, python).items()}
        subprocess.run([*install, VERSION], check=True)
        rows["environment with AdaptShot"] = {"mb": measure_environment_mb(Path(place))}
        return rows | measure_beside_adaptshot(python)
