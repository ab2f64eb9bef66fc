"""Exported classifiers in an environment of their own: the same answers on odd files, and what they cost there."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.methods import create_method
from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.folder import ENCODER
from fewshot.reproduction.benchmarks.adaptshot import VERSION, measure_beside_adaptshot
from fewshot.reproduction.benchmarks.odd_files import PHOTO_PX, write_coins

N_SHOT, N_FILES = 4, 200
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
        ("meta-baseline", {}), ("matching", {}), ("nearest", {}), ("nearest", {"k": 3}), ("r2d2", {}),
    ],
    "circle, 8 turns, colour, 128 px": [("baseline", {"solver": "logistic", "c": 10.0})],
    "circle, 24 turns, rings, 128 px": [("aligned", {})],
}  # fmt: skip
# What is run where neither torch nor fewshot is: answers of each head on one pass of the network, times, memory.
PROGRAM = """
import json, resource, sys, time
start = time.perf_counter()
asked = json.load(open(sys.argv[1]))
sys.path.insert(0, asked["folders"][0])
from predictor import Predictor
import numpy as np
for name in ("torch", "fewshot", "scipy"):
    assert name not in sys.modules
first = Predictor(asked["folders"][0])
first.predict([asked["photo"]])
facts = {"first_answer_s": time.perf_counter() - start}
facts["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
pixels, bad = first.read(asked["files"])
assert not bad, bad
first.encode(pixels[:3])
cpu, wall = time.process_time(), time.perf_counter()
features = first.encode(pixels)
facts["encoded_per_cpu_s"] = len(pixels) / (time.process_time() - cpu)
facts["encoded_per_s"] = len(pixels) / (time.perf_counter() - wall)
answers = [Predictor(folder).answer(features) for folder in asked["folders"]]
np.savez(asked["out"], **{f"p{i}": a.probabilities for i, a in enumerate(answers)},
         **{f"a{i}": a.accepted for i, a in enumerate(answers)})
print(json.dumps(facts))
"""


def measure_exported(network: str, python: str = sys.executable, int8: bool = False) -> dict[str, dict[str, Any]]:
    """Each head on one network: the largest difference of a probability and of refusals on 200 files, and costs.

    `python`: an interpreter with numpy, onnxruntime and pillow. The support is 4 euro coins a class, each of another
    photograph, the files are others, written in ten ways (`write_odd_files`).
    """
    options = {"precision": "float32", "device": "cpu", "false_accept_rate": 0.1, **NETWORKS[network]}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        coins = write_coins(root, N_SHOT, N_FILES, odd=True)
        files = coins.asked
        photo = root / "photo.jpg"
        Image.open(files[0]).convert("RGB").resize(PHOTO_PX).save(photo, quality=90)
        classifiers: list[FewShotClassifier] = []
        for number, (method, method_options) in enumerate(HEADS[network]):
            classifier = FewShotClassifier(method=method, method_options=method_options, **options)
            if number:  # the same network: features are not computed again
                one = classifiers[0]
                classifier.learn(_with_head(classifier, one), one.classes_, one.support_)
            else:
                classifier.fit(coins.support, coins.labels)
            write_predictor(classifier, root / f"m{number}", int8, root / "m0" / ENCODER if number else None)
            classifiers.append(classifier)
        (root / "asked.json").write_text(json.dumps({
            "folders": [str(root / f"m{number}") for number in range(len(classifiers))],
            "files": [str(path) for path in files], "photo": str(photo), "out": str(root / "out.npz"),
        }))  # fmt: skip
        (root / "ask.py").write_text(PROGRAM)
        words = [python, "-I", str(root / "ask.py"), str(root / "asked.json")]
        costs = json.loads(subprocess.run(words, check=True, capture_output=True, text=True, cwd=place).stdout)
        pixels, _ = classifiers[0].inputs_.read(files)
        classifiers[0].encoder_.compute_content(pixels[:3])
        cpu, wall = time.process_time(), time.perf_counter()
        parts = [classifiers[0].encoder_.compute_content(pixels[i : i + 1]) for i in range(len(pixels))]
        costs["torch_encoded_per_cpu_s"] = len(parts) / (time.process_time() - cpu)
        costs["torch_encoded_per_s"] = len(parts) / (time.perf_counter() - wall)
        costs["encoder_mb"] = (root / "m0" / ENCODER).stat().st_size / 1e6
        content = parts[0].new_tensor(np.concatenate([part.numpy() for part in parts]))
        with np.load(root / "out.npz") as said:
            for number, classifier in enumerate(classifiers):
                expected = classifier.probabilities(classifier.fitted_.logits(content))
                rejection = classifier.rejection_
                assert rejection is not None  # a rate of false accepts was asked for
                accepted = rejection.accept(classifier.fitted_, content)
                name = f"{HEADS[network][number][0]} {HEADS[network][number][1]}"
                found[name] = {
                    "largest difference": float(np.abs(said[f"p{number}"] - expected).max()),
                    "same answers": float((said[f"p{number}"].argmax(1) == expected.argmax(1)).mean()),
                    "same refusals": float((said[f"a{number}"] == accepted).mean()),
                    "refused": float(1 - accepted.mean()),
                }
    return {**found, "costs": costs}


def _with_head(asked: FewShotClassifier, fitted: FewShotClassifier) -> Encoder:
    """The encoder of a fitted classifier with the head that another one asks for."""
    source = fitted.encoder_
    method = create_method(asked.method or "baseline", source.method.backbone, **(asked.method_options or {}))
    options = replace(source.plan.options, method=asked.method, method_options=asked.method_options)
    return Encoder(method.eval(), replace(source.plan, options=options))


def measure_all() -> dict[str, dict[str, Any]]:
    """All networks and heads, weights of 8 bits, and AdaptShot, in an environment that is made for them."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = str(Path(place) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", VERSION], check=True)
        rows: dict[str, dict[str, Any]] = {}
        for network in NETWORKS:
            for int8 in (False, True):
                found = measure_exported(network, python, int8)
                rows |= {f"{network}{', 8 bits' if int8 else ''}: {head}": values for head, values in found.items()}
        return rows | measure_beside_adaptshot(python)
