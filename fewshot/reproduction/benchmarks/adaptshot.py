"""Exported classifiers and AdaptShot 0.3.0, https://pypi.org/project/adaptshot, on the same photographs in one run."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.estimator.estimator import FewShotClassifier
from fewshot.evaluation.statistics import compute_paired_difference
from fewshot.photographs.inspection.intervals import estimate_proportion
from fewshot.photographs.serving.export import write_predictor
from fewshot.reproduction.benchmarks.odd_files import Coins, write_coins

VERSION = "adaptshot==0.3.0"
N_SHOT, N_ASKED = 4, 200
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "fewshot, 224 px": {},
    "fewshot, circle, 8 turns, colour, 128 px": {
        "size_px": 128, "find_circle": True, "rotation_invariant": 8, "views": {"colour": 0.3},
    },
    "fewshot, aligned, circle, 24 turns, colour, 128 px": {
        "method": "aligned", "size_px": 128, "find_circle": True, "rotation_invariant": 24,
        "views": {"rings": "blocks.3", "colour": 0.3},
    },
}  # fmt: skip
# One process for each classifier, as a user would begin: from import to the first answer, then the others.
PROGRAM = """
import json, sys, time
start = time.perf_counter(), time.process_time()
asked = json.load(open(sys.argv[1]))
if asked["folder"]:
    sys.path.insert(0, asked["folder"])
    from predictor import Predictor
    predictor = Predictor(asked["folder"])
    ask = lambda path: predictor.predict([path])[0]
else:
    from adaptshot import FewShotLearner
    learner = FewShotLearner()
    learner.load_support_images(asked["support"], asked["labels"])
    ask = lambda path: learner.predict(path).prediction
answers = [ask(asked["files"][0])]
first = time.perf_counter() - start[0], time.process_time() - start[1]
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
cpu, wall = time.process_time(), time.perf_counter()
answers += [ask(path) for path in asked["files"][1:]]
n = len(answers) - 1
print(json.dumps({"answers": answers, "first_answer_s": first[0], "first_answer_cpu_s": first[1],
                  "peak_mb": int(peak.split()[1]) * 1024 / 1e6, "per_cpu_s": n / (time.process_time() - cpu),
                  "per_s": n / (time.perf_counter() - wall)}))
"""


def measure_environment_mb(venv: Path) -> float:
    """Measure an environment's packages without pip and setuptools, MB."""
    site = next((venv / "lib").glob("python*/site-packages"))
    own = ("pip", "setuptools", "_distutils_hack", "pkg_resources")
    places = [place for place in site.iterdir() if not place.name.startswith(own)]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink()) / 1e6


def measure_beside_adaptshot(python: str) -> dict[str, dict[str, Any]]:
    """Share right of 200 euro coins after 4 of each, seconds to the first answer, photographs/s, memory.

    `more` is by how much more is right than of AdaptShot, with the half-width `more_half` of its 95% interval: the mean
    over photographs, which show several coins each. AdaptShot learns the support in its first answer's time;
    an exported folder has learned it.

    Args:
        python: an interpreter with AdaptShot, which brings numpy, onnxruntime and pillow.
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        coins = write_coins(root, N_SHOT, N_ASKED, odd=False)
        first, theirs = _ask(python, root, coins, None)
        rows = {"AdaptShot 0.3.0": first}
        for number, (name, options) in enumerate(CLASSIFIERS.items()):
            classifier = FewShotClassifier(precision="float32", device="cpu", **options)
            write_predictor(classifier.fit(coins.support, coins.labels), root / f"m{number}")
            rows[name], ours = _ask(python, root, coins, root / f"m{number}")
            by_photograph = [[r[coins.groups == g].mean() for g in np.unique(coins.groups)] for r in (ours, theirs)]
            more = compute_paired_difference(*by_photograph)
            rows[name] |= {"more": more.mean, "more_half": more.half_width_95}
    return rows


def _ask(python: str, root: Path, coins: Coins, folder: Path | None) -> tuple[dict[str, Any], np.ndarray]:
    """Ask one classifier; returns its row, and for each photograph 1 where the answer was right, else 0."""
    (root / "asked.json").write_text(json.dumps({
        "folder": None if folder is None else str(folder), "files": [str(path) for path in coins.asked],
        "support": [str(path) for path in coins.support], "labels": coins.labels,
    }))  # fmt: skip
    (root / "ask.py").write_text(PROGRAM)
    words = [python, "-I", str(root / "ask.py"), str(root / "asked.json")]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=root)
    found = json.loads(done.stdout.splitlines()[-1])
    right = (np.array(found.pop("answers")) == coins.truth).astype(float)
    share = estimate_proportion(right, np.ones(len(right)), coins.groups)
    size = 0 if folder is None else sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {"right": share.mean, "low": share.low, "high": share.high, **found, "folder_mb": size / 1e6}, right
