"""What is noted of a photograph, so that it can be told later whether photographs have changed.

numpy only, since predictors use it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fewshot.estimator.ranks import deal_folds

MEASURES = {
    "known": "how well it fits any class",
    "sure": "probability of the likeliest class",
    "length": "length of its features, in logarithms",
    "centre": "likeness to all photographs learned from together",
}
STEPS_OF_DEVIATION = 16  # numbers are noted in sixteenths of the deviation among left-out photographs
MOST_LEFT_OUT = 1000  # photographs of the reference; more tell little more


@dataclass(frozen=True, eq=False)
class Noted:
    """What is noted of n photographs: numbers, neither pictures nor names.

    Attributes:
        nearest: (n,), numbers of their likeliest classes.
        refused: (n,) bool, or None where nothing is refused.
        levels: for each of `MEASURES` that there is (n,) whole numbers of steps.
    """

    nearest: np.ndarray
    refused: np.ndarray | None
    levels: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.nearest)

    def select(self, rows: np.ndarray) -> Self:
        """Select `rows`, numbers or a mask."""
        refused = None if self.refused is None else self.refused[rows]
        return type(self)(self.nearest[rows], refused, {name: x[rows] for name, x in self.levels.items()})


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What left-out photographs were like, to which later ones are compared.

    Attributes:
        noted: of the left-out photographs, one of each group and class.
        steps: the size of a step of each measure.
        centre: (D,) mean of the classes' mean features, of unit length; empty where there are no features.
    """

    noted: Noted
    steps: Mapping[str, float]
    centre: np.ndarray

    @classmethod
    def collect(
        cls,
        probabilities: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None,
        features: np.ndarray | None,
        known: np.ndarray | None,
        threshold: float | None,
    ) -> Self:
        """Collect it from a support set, of which some images were predicted without their group.

        Args:
            probabilities: (m, n_classes), of left-out images.
            rows: (m,), which images of the support these are.
            labels: (n,), of the support.
            groups: (n,), or None.
            features: (n, D), or None for methods without.
            known: (m,), scores of left-out images, or None.
            threshold: of refusals, or None.
        """
        values: dict[str, np.ndarray] = {"sure": probabilities.max(1, initial=0)}
        if known is not None:
            values["known"] = known
        centre = np.zeros(0, np.float32)
        if features is not None:
            flat = features.reshape(len(features), -1).astype(np.float64)
            centre, fold = find_centre(flat, labels).astype(np.float32), deal_folds(labels, groups)
            values["length"], values["centre"] = np.zeros((2, len(rows)))
            for number in np.unique(fold[rows]):
                mine, others = fold[rows] == number, fold != number
                found = measure_features(flat[rows[mine]], find_centre(flat[others], labels[others]))
                values["length"][mine], values["centre"][mine] = found
        once = choose_one_each(rows, labels, groups)
        steps = {name: _find_step(values[name][once]) for name in MEASURES if name in values}
        refused = None if threshold is None or known is None else known < threshold
        noted = Noted(probabilities.argmax(1), refused, count_steps(values, steps))
        return cls(noted.select(once), steps, centre)

    def note(
        self, probabilities: np.ndarray, features: np.ndarray | None, known: np.ndarray | None,
        accepted: np.ndarray | None,
    ) -> Noted:  # fmt: skip
        """Note photographs that were answered.

        Args:
            probabilities: (n, n_classes).
            features: (n, D), or None.
            known: (n,) scores, or None.
            accepted: (n,) bool, or None where nothing is refused.
        """
        values: dict[str, np.ndarray] = {"sure": probabilities.max(1, initial=0)}
        if known is not None:
            values["known"] = known
        if features is not None and len(self.centre):
            flat = features.reshape(len(features), -1)
            values["length"], values["centre"] = measure_features(flat, self.centre)
        refused = None if accepted is None or self.noted.refused is None else ~accepted
        return Noted(probabilities.argmax(1), refused, count_steps(values, self.steps))

    def pack(self) -> dict[str, np.ndarray]:
        """Convert to arrays, for a file."""
        arrays = {f"levels.{name}": levels.astype(np.int32) for name, levels in self.noted.levels.items()}
        arrays |= {f"step.{name}": np.array(step) for name, step in self.steps.items()}
        if self.noted.refused is not None:
            arrays["refused"] = self.noted.refused
        return arrays | {"nearest": self.noted.nearest.astype(np.int32), "centre": self.centre}

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray], n_classes: int, width: int) -> Self:
        """Convert back, for features of `width`; raises `ValueError` or `KeyError` for arrays of something else."""
        steps = {name: float(arrays[f"step.{name}"]) for name in MEASURES if f"step.{name}" in arrays}
        levels = {name: np.asarray(arrays[f"levels.{name}"]) for name in steps}
        nearest, refused = np.asarray(arrays["nearest"]), arrays.get("refused")
        parts = [nearest, *levels.values(), *([] if refused is None else [refused])]
        if any(x.shape != nearest.shape or x.ndim != 1 or x.dtype.kind not in "biu" for x in parts):
            raise ValueError("the left-out photographs' numbers differ in shape")
        if not all(np.isfinite(step) and step > 0 for step in steps.values()):
            raise ValueError("a step is no positive number")
        if len(nearest) and not 0 <= nearest.min() <= nearest.max() < n_classes:
            raise ValueError("a left-out photograph is of no class")
        centre = np.asarray(arrays["centre"])
        if centre.shape not in ((0,), (width,)) or not np.isfinite(centre).all():
            raise ValueError(
                f"the centre of features of {width} numbers has the shape {centre.shape}, or is not finite"
            )
        return cls(Noted(nearest, None if refused is None else refused.astype(bool), levels), steps, centre)


def find_centre(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Find the direction (D,) of the mean of the classes' mean features, of features (n, D) brought to unit length."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    mean = np.mean([unit[labels == label].mean(0) for label in np.unique(labels)], 0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def measure_features(features: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure features (n, D): the logarithms of their lengths, and the cosines to `centre` (D,), both (n,)."""
    lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-12)
    return np.log(lengths), features @ centre / lengths


def count_steps(values: Mapping[str, np.ndarray], steps: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Convert values to whole numbers of steps, (n,) int32; those that are not finite become the lowest."""
    found = {}
    for name, step in steps.items():
        if name in values:
            counted = np.nan_to_num(np.rint(values[name] / step), nan=-1e9, posinf=1e9, neginf=-1e9)
            found[name] = np.clip(counted, -1e9, 1e9).astype(np.int32)
    return found


def choose_one_each(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Choose the first of `rows` (m,) of each class and group, at most `MOST_LEFT_OUT`; numbers into `rows`."""
    once = np.arange(len(rows))
    if groups is not None and len(rows):
        keys: Sequence[tuple[int, str]] = [(int(labels[row]), str(groups[row])) for row in rows]
        once = np.array(sorted({key: number for number, key in reversed(list(enumerate(keys)))}.values()))
    if len(once) <= MOST_LEFT_OUT:
        return once
    return once[np.linspace(0, len(once) - 1, MOST_LEFT_OUT).round().astype(int)]


def _find_step(values: np.ndarray) -> float:
    deviation = float(np.std(values)) if len(values) > 1 else 0.0
    return max(deviation, 1e-6) / STEPS_OF_DEVIATION
