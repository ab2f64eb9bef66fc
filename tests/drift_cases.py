"""A made-up classifier's reference of left-out photographs, and what is noted of others."""

import numpy as np

from fewshot.estimator.drift import DriftReference, Noted
from fewshot.runtime import seeding

CLASSES = ["a", "b & <b>", "c"]


def make_reference(n: int = 24, shift: float = 0.0) -> DriftReference:
    rng = seeding.numpy_generator(0, "reference")
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    probabilities = 0.1 + 0.7 * np.eye(3)[labels]
    return DriftReference.collect(probabilities, np.arange(n), labels, None, features, rng.normal(size=n) + shift, -1.0)


def note(reference: DriftReference, n: int, name: object = 0, lower: float = 0.0) -> Noted:
    rng = seeding.numpy_generator(1, "asked", name)
    labels = rng.integers(0, 3, n)
    known = rng.normal(size=n) - lower
    features = rng.normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    return reference.note(0.1 + 0.7 * np.eye(3)[labels], features, known, known >= -1)
