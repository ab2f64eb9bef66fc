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
import torch
from PIL import Image

from fewshot.datasets import ImageSet, load_dataset
from fewshot.estimator.encoder import Encoder
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.methods import create_method
from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.folder import ENCODER

N_SHOT, N_FILES = 4, 200
PHOTO_PX = (4000, 3000)  # 12 megapixels
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
        support, labels, files = _write_coins(root)
        photo = root / "photo.jpg"
        Image.open(files[0]).convert("RGB").resize(PHOTO_PX).save(photo, quality=90)
        classifiers = []
        for number, (method, method_options) in enumerate(HEADS[network]):
            classifier = FewShotClassifier(method=method, method_options=method_options, **options)
            if number:  # the same network: features are not computed again
                one = classifiers[0]
                classifier.learn(_with_head(classifier, one), one.classes_, one.support_)
            else:
                classifier.fit(support, labels)
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
                accepted = rejection.accept(classifier.fitted_, classifier.support_, content)
                name = f"{HEADS[network][number][0]} {HEADS[network][number][1]}"
                found[name] = {
                    "largest difference": float(np.abs(said[f"p{number}"] - expected).max()),
                    "same answers": float((said[f"p{number}"].argmax(1) == expected.argmax(1)).mean()),
                    "same refusals": float((said[f"a{number}"] == accepted).mean()),
                    "refused": float(1 - accepted.mean()),
                }
    return {**found, "costs": costs}


def write_odd_files(images: list[Image.Image], folder: Path) -> list[Path]:
    """The pictures as phones, scanners and drawing programs write them, in turn in ten ways."""
    folder.mkdir()
    paths = []
    for number, image in enumerate(images):
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        clear = image.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(image.size))
        kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
            ("turned.jpg", image, {"exif": exif}),
            ("cmyk.jpg", image.convert("CMYK"), {}),
            ("16 bits.png", Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), {}),
            ("palette.png", image.convert("P", palette=Image.Palette.ADAPTIVE), {}),
            ("clear.png", clear, {}),
            ("grey.jpg", image.convert("L"), {}),
            ("12 megapixels.jpg", image.resize(PHOTO_PX), {"quality": 90}),
            ("photo.webp", image, {}),
            ("turned.tif", image, {"exif": exif}),
            ("palette.gif", image.convert("P"), {}),
        ]
        name, changed, options = kinds[number % len(kinds)]
        paths.append(folder / f"{number} {name}")
        changed.save(paths[-1], **options)
    return paths


def _write_coins(root: Path) -> tuple[list[Path], list[str], list[Path]]:
    """Support files with their labels, and 200 odd files of other photographs."""
    coins = load_dataset("euro_coins", "all", size_px=150)
    assert coins.groups is not None, "euro coins have photographs"
    rows, used = [], set()
    for label in range(len(coins.class_names)):
        for row in np.flatnonzero(coins.labels == label):
            if coins.groups[row] not in {coins.groups[r] for r in rows if coins.labels[r] == label}:
                rows.append(int(row))
            if sum(coins.labels[r] == label for r in rows) == N_SHOT:
                break
    used = {coins.groups[row] for row in rows}
    others = [row for row in range(len(coins)) if coins.groups[row] not in used]
    chosen = [others[i] for i in np.linspace(0, len(others) - 1, N_FILES).astype(int)]
    (root / "support").mkdir()
    paths = [root / "support" / f"{number}.png" for number in range(len(rows))]
    for path, row in zip(paths, rows, strict=True):
        _as_image(coins, row).save(path)
    labels = [coins.class_names[coins.labels[row]] for row in rows]
    return paths, labels, write_odd_files([_as_image(coins, row) for row in chosen], root / "files")


def _as_image(images: ImageSet, row: int) -> Image.Image:
    return Image.fromarray(images.gather(torch.tensor([row]))[0].permute(1, 2, 0).numpy())


def _with_head(asked: FewShotClassifier, fitted: FewShotClassifier) -> Encoder:
    """The encoder of a fitted classifier with the head that another one asks for."""
    source = fitted.encoder_
    method = create_method(asked.method or "baseline", source.method.backbone, **(asked.method_options or {}))
    options = replace(source.plan.options, method=asked.method, method_options=asked.method_options)
    return Encoder(method.eval(), replace(source.plan, options=options))
