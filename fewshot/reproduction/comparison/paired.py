"""Compares two methods' results on the same episodes: paired difference, sign test, differences by class.

Every interval and test covers only the random choice of episodes from this set of images with these weights, neither
other images of the classes nor other training seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, stdtrit

from fewshot.errors import DataError
from fewshot.evaluation.record_header import find_episode_differences
from fewshot.evaluation.records import Records
from fewshot.evaluation.statistics import Estimate, compute_mean_interval, compute_paired_difference
from fewshot.sampling.episodes import PADDING

SIGNIFICANCE = 0.05  # of all classes together, after Holm


class SignTest(NamedTuple):
    """In how many episodes A was better, B was better, or neither; and the exact two-sided p-value without ties."""

    a_better: int
    b_better: int
    ties: int
    p_value: float


@dataclass(frozen=True)
class Measured:
    """A run's records, and the accuracies on each class of each episode.

    `classes` (n_episodes, n_way): class_id of each label, -1 where an episode has fewer ways.
    `class_accuracy` (n_episodes, n_way): fraction of that class's queries that were right, NaN where absent.
    """

    records: Records
    classes: np.ndarray
    class_accuracy: np.ndarray


@dataclass(frozen=True)
class ClassDifference:
    """One class over the `n_episodes` in which it occurs; `difference`: A − B, with its 95% interval.

    `sign`: over these episodes; `holm_p`: its p-value, adjusted for testing all classes.
    """

    class_id: int
    name: str
    n_episodes: int
    accuracy_a: Estimate
    accuracy_b: Estimate
    difference: Estimate
    sign: SignTest
    holm_p: float

    @property
    def significant(self) -> bool:
        """Whether the sign test rejects at 5%, corrected for testing all classes."""
        return self.holm_p <= SIGNIFICANCE


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same episodes. `classes`: largest A − B first; `unseen`: classes that no episode holds.

    `unpaired_half_width_95`: of the interval that would ignore that the episodes are the same.
    `correlation`: of the episode accuracies; None if the accuracies of one run are constant.
    """

    names: tuple[str, str]
    a: Measured
    b: Measured
    difference: Estimate
    unpaired_half_width_95: float
    correlation: float | None
    sign: SignTest
    classes: list[ClassDifference]
    unseen: list[str]


def compare(a: Measured, b: Measured, class_names: Sequence[str], names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare two measurements on the same episodes; raises `DataError` if the episodes differ.

    `class_names`: of the image set, by class_id; `names`: of the two runs.
    """
    differing = find_episode_differences(a.records.header, b.records.header, same_pixels=False)
    if differing:
        raise DataError(f"{names[0]} and {names[1]} were measured on different episodes: {differing}")
    if not np.array_equal(a.classes, b.classes):
        raise DataError(f"{names[0]} and {names[1]} were measured on episodes of different classes")
    classes = _compare_classes(a, b, class_names)
    seen = {c.class_id for c in classes}
    accuracy_a, accuracy_b = a.records.accuracy, b.records.accuracy
    constant = np.ptp(accuracy_a) == 0 or np.ptp(accuracy_b) == 0
    return Comparison(
        names=names,
        a=a,
        b=b,
        difference=compute_paired_difference(accuracy_a, accuracy_b),
        unpaired_half_width_95=compute_unpaired_half_width(accuracy_a, accuracy_b),
        correlation=None if constant else float(np.corrcoef(accuracy_a, accuracy_b)[0, 1]),
        sign=compute_sign_test(accuracy_a - accuracy_b),
        classes=sorted(classes, key=lambda c: (-c.difference.mean, c.class_id)),
        unseen=[name for c, name in enumerate(class_names) if c not in seen],
    )


def compute_sign_test(differences: Sequence[float] | np.ndarray) -> SignTest:
    """Compute the exact two-sided sign test of A − B over episodes (n,), ignoring ties.

    An episode is one observation. Its queries are not independent, since they share a support set, so a test that
    counts queries, such as McNemar's, would overstate the significance.
    """
    differences = np.asarray(differences)
    a_better, b_better = int((differences > 0).sum()), int((differences < 0).sum())
    tail = bdtr(float(min(a_better, b_better)), a_better + b_better, 0.5)  # P(this few or fewer of n fair coins)
    return SignTest(a_better, b_better, len(differences) - a_better - b_better, min(1.0, 2 * float(tail)))


def adjust_by_holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values (n,) so that rejecting those below α makes any false rejection with probability at most α.

    This holds for any dependence between the tests. Holm, A simple sequentially rejective multiple test
    procedure, Scandinavian Journal of Statistics 6, 1979, https://www.jstor.org/stable/4615733.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    factors = len(p_values) - np.arange(len(p_values))  # n for the smallest, 1 for the largest
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def compute_unpaired_half_width(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the half-width of Welch's 95% interval of the difference of two means of independent lists."""
    parts = np.array([values.var(ddof=1) / len(values) for values in (a, b)])  # squared standard errors
    if parts.sum() == 0:
        return 0.0
    freedom = parts.sum() ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    return float(stdtrit(freedom, 0.975) * np.sqrt(parts.sum()))


def _compare_classes(a: Measured, b: Measured, class_names: Sequence[str]) -> list[ClassDifference]:
    present = a.classes != PADDING
    class_ids = a.classes[present]  # (n_occurrences,)
    order = np.argsort(class_ids, kind="stable")
    ids, starts = np.unique(class_ids[order], return_index=True)
    groups = [np.split(m.class_accuracy[present][order], starts[1:]) for m in (a, b)]
    signs = [compute_sign_test(of_a - of_b) for of_a, of_b in zip(*groups, strict=True)]
    adjusted = adjust_by_holm([sign.p_value for sign in signs])
    return [
        ClassDifference(
            class_id=int(class_id),
            name=class_names[class_id],
            n_episodes=len(of_a),
            accuracy_a=compute_mean_interval(of_a),
            accuracy_b=compute_mean_interval(of_b),
            difference=compute_paired_difference(of_a, of_b),
            sign=sign,
            holm_p=float(p),
        )
        for class_id, of_a, of_b, sign, p in zip(ids, *groups, signs, adjusted, strict=True)
    ]
