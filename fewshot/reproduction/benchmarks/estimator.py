"""Measures the time of `FewShotClassifier` on photographs."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot.estimator import FewShotClassifier
from fewshot.estimator.support import Support
from fewshot.photographs.inspection.learning_curve import predict_left_out
from fewshot.photographs.inspection.suspects import find_suspects
from fewshot.photographs.suggestions import measure_likeness
from fewshot.reproduction.benchmarks.timing import measure_in_turns, measure_median_seconds
from fewshot.runtime import seeding

N_CLASSES, N_SHOT, N_QUERY = 8, 4, 64
PHOTO_PX = (640, 480)
REPEATS = 3
TRUST_REPEATS = 5


def measure_estimator(**options: object) -> dict[str, float]:
    """Measure seconds to fit 8 classes of 4 JPEG files and to add a class of 4, and images/s of predicting 64 files.

    `options`: of `FewShotClassifier`. The files are noise of 640 x 480 px, written before the clock starts.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [_draw_photograph(Path(folder), number) for number in range(N_CLASSES * N_SHOT + N_QUERY)]
        support, query = paths[: N_CLASSES * N_SHOT], paths[N_CLASSES * N_SHOT :]
        labels = np.repeat(np.arange(N_CLASSES), N_SHOT)
        classifier = FewShotClassifier(**options).fit(support, labels)

        def fit() -> None:
            encoded = Support.gather(classifier.encoder_.encode(support), labels, None)
            classifier.learn(classifier.encoder_, np.arange(N_CLASSES), encoded)

        def add() -> None:
            classifier.add_class(N_CLASSES, query[:N_SHOT])
            classifier.remove_class(N_CLASSES)

        fit_s, add_s = measure_median_seconds(fit, REPEATS), measure_median_seconds(add, REPEATS)
        predict_s = measure_median_seconds(lambda: classifier.predict(query), REPEATS)
    return {"fit_s": fit_s, "add_and_remove_a_class_s": add_s, "predicted_images_per_s": N_QUERY / predict_s}


def measure_trust(**options: object) -> dict[str, float]:
    """Measure what thresholds, suspects and prediction sets add, as shares of fitting and predicting without them.

    The files are those of `measure_estimator`. CPU seconds, in turns in one run, so that other work on the machine
    matters little.

    Args:
        options: of `FewShotClassifier`.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [_draw_photograph(Path(folder), number) for number in range(N_CLASSES * N_SHOT + N_QUERY)]
        support, query = paths[: N_CLASSES * N_SHOT], paths[N_CLASSES * N_SHOT :]
        labels = np.repeat(np.arange(N_CLASSES), N_SHOT)
        plain = FewShotClassifier(**options).fit(support, labels)
        refusing = FewShotClassifier(**options, false_accept_rate=0.1).fit(support, labels)

        def fit(classifier: FewShotClassifier) -> None:
            encoded = Support.gather(classifier.encoder_.encode(support), labels, None)
            classifier.learn(classifier.encoder_, np.arange(N_CLASSES), encoded)

        def suspect() -> None:
            method, features = plain.encoder_.method, plain.support_.content
            estimate = predict_left_out(method.predict_among, features, labels)
            find_suspects(estimate, labels, measure_likeness(method, features))

        found = measure_in_turns(
            {
                "fit": lambda: fit(plain),
                "fit_refusing": lambda: fit(refusing),
                "suspect": suspect,
                "predict": lambda: plain.predict(query),
                "predict_refusing": lambda: refusing.predict(query),
                "predict_sets": lambda: plain.predict_set(query),
            },
            TRUST_REPEATS,
            time.process_time,
        )
    return {
        "fit_cpu_s": found["fit"],
        "predict_cpu_s": found["predict"],
        "a_threshold_adds_to_fit": found["fit_refusing"] / found["fit"] - 1,
        "suspects_add_to_fit": found["suspect"] / found["fit"],
        "a_threshold_adds_to_predict": found["predict_refusing"] / found["predict"] - 1,
        "sets_add_to_predict": found["predict_sets"] / found["predict"] - 1,
    }


def measure_photographs_per_second(folder: Path, n_images: int, **options: object) -> dict[str, float]:
    """JPEG files/s that an estimator predicts, and that are decoded alone; 4 classes of 4, all files written before.

    Args:
        folder: where the files, noise of 640 x 480 px, are written.
        n_images: how many are predicted: `N_QUERY` files again and again.
        options: of `FewShotClassifier`; default: EfficientNet-Lite0 without its published weights.
    """
    paths = [_draw_photograph(folder, number) for number in range(16 + N_QUERY)]
    support, query = paths[:16], (paths[16:] * n_images)[:n_images]
    options = {"backbone": "efficientnet-lite0", "pretrained": False, "calibrate": False} | options
    classifier = FewShotClassifier(**options).fit(support, np.repeat(np.arange(4), 4))

    def decode() -> None:
        for _ in classifier.inputs_.read_batches(query):
            pass

    predict_s = measure_median_seconds(lambda: classifier.predict(query), 1)
    decode_s = measure_median_seconds(decode, 1)
    return {"predicted_images_per_s": n_images / predict_s, "decoded_images_per_s": n_images / decode_s}


def _draw_photograph(folder: Path, number: int) -> Path:
    draw = seeding.numpy_generator(number, "photograph")
    small = draw.integers(0, 256, (15, 20, 3), dtype=np.uint8)
    path = folder / f"{number}.jpg"
    Image.fromarray(small).resize(PHOTO_PX, Image.Resampling.BICUBIC).save(path, quality=90)
    return path
