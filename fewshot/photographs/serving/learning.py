"""What a predictor has learned: a support set of features, the head that is fitted to it, temperature and threshold.

Step for step what `fewshot.estimator` does with torch and scipy, by numpy alone; tests compare the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from fewshot.errors import DataError
from fewshot.estimator.drift import DriftReference
from fewshot.estimator.prediction_sets import SetScores, choose_sets
from fewshot.estimator.ranks import deal_folds, weigh_groups
from fewshot.estimator.thresholds import RefusalScores
from fewshot.estimator.whitening import Whitening, score_left_out_rows, score_whitened
from fewshot.images.joining import join_groups, number_sets, pair_equal
from fewshot.photographs.serving.gaussians import Arrays
from fewshot.photographs.serving.heads import HEADS, log_softmax, log_sum_exp, normalize
from fewshot.photographs.serving.turns import compare_turns

REFUSALS = ("false_accept_rate", "false_reject_rate", "balanced")  # the ways in which a threshold is asked for
LOG_TEMPERATURES = (-7.0, 7.0)
GOLDEN = (5**0.5 - 1) / 2
N_HALVINGS = 60


@dataclass(frozen=True)
class Support:
    """`features` (n, D), `labels` (n,) in 0..n_classes-1, `groups` (n,) strings or None.

    `digests` (n, 8): hashes of the pixels. `copies` (n,): which set of copies each image belongs to.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    digests: np.ndarray
    copies: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, which: np.ndarray) -> Self:
        """Select the rows `which`, numbers or a mask."""
        groups = None if self.groups is None else self.groups[which]
        return replace(
            self, features=self.features[which], labels=self.labels[which], groups=groups,
            digests=self.digests[which], copies=self.copies[which],
        )  # fmt: skip

    def join(self, features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, digests: np.ndarray) -> Self:
        """Append the rows of another one; equal pictures are copies. Raises `DataError` if one has two labels."""
        digests, labels = np.concatenate([self.digests, digests]), np.concatenate([self.labels, labels])
        equal = list(pair_equal(map(bytes, digests)))
        twice = [f"{i} and {j}" for i, j in equal if labels[i] != labels[j]]
        if twice:
            raise DataError(f"the same picture in two classes: images {', '.join(twice[:5])} of those learned")
        pairs = [*equal, *pair_equal([*self.copies.tolist(), *(f"new {i}" for i in range(len(features)))])]
        both = None if self.groups is None or groups is None else np.concatenate([self.groups, groups])
        joined = np.concatenate([self.features, features.astype(np.float32)]) if len(self) else features
        return replace(
            self, features=joined, labels=labels, groups=both, digests=digests, copies=number_sets(len(labels), pairs)
        )


@dataclass(frozen=True)
class Method:
    """The head `name` with its options, and what is asked of its answers.

    `false_accept_rate`, `false_reject_rate`, `balanced`: in which way images are refused, if in any. `unit`: scores of
    how well an image fits any class are of features of unit length.
    """

    name: str
    options: Mapping[str, Any]
    calibrate: bool = True
    false_accept_rate: float | None = None
    false_reject_rate: float | None = None
    balanced: bool = False
    unit: bool = True

    @property
    def refuses(self) -> bool:
        """Whether images of no known class are refused."""
        return self.false_accept_rate is not None or self.false_reject_rate is not None or self.balanced

    def fit(self, support: Support, n_classes: int) -> Arrays:
        """Fit the head; returns the arrays that `logits` uses."""
        return HEADS[self.name].fit(support.features, support.labels, n_classes, self.options)

    def logits(self, arrays: Arrays, features: np.ndarray) -> np.ndarray:
        """Compute logits (n, n_classes) of features (n, D), in 64 bits so that no answer depends on other images."""
        return HEADS[self.name].logits(arrays, features.astype(np.float64), self.options)

    def score_known(self, arrays: Arrays, support: Support, features: np.ndarray) -> np.ndarray:
        """Score how well each query fits any class, (n,); see `fewshot.estimator.rejection`."""
        if HEADS[self.name].evidence_in_logits:
            return log_sum_exp(self.logits(arrays, features))
        return score_whitened(support.features, support.labels, features, self.unit)

    def similarity(self, support: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Compare images, (n_queries, n_support); 1 for the same image."""
        if self.name == "aligned":
            return compare_turns(support, queries, self.options)
        return normalize(queries) @ normalize(support).T


@dataclass(frozen=True)
class Learned:
    """Classes (n_classes,), sorted, and what tells them apart.

    `arrays`: of the head. `temperature` divides logits; `calibrated`: held-out images gave it. `threshold`: images
    with a lower score are of no known class; None: none is refused. `set_scores`: what decides how wide sets are.
    `drift`: what left-out images were like; None in folders of early versions.
    """

    classes: np.ndarray
    support: Support
    arrays: Arrays
    temperature: float = 1.0
    calibrated: bool = False
    threshold: float | None = None
    set_scores: SetScores | None = None
    drift: DriftReference | None = None
    _whitenings: dict[bool, Whitening] = field(default_factory=dict, init=False, repr=False, compare=False)

    def score_known(self, method: Method, features: np.ndarray) -> np.ndarray:
        """As `Method.score_known`; what depends on the support alone is computed once."""
        if HEADS[method.name].evidence_in_logits:
            return method.score_known(self.arrays, self.support, features)
        if method.unit not in self._whitenings:
            self._whitenings[method.unit] = Whitening(self.support.features, self.support.labels, method.unit)
        return self._whitenings[method.unit].score(features)


def learn(method: Method, classes: np.ndarray, support: Support) -> Learned:
    """Fit the head to a support set, and temperature and threshold to its held-out images."""
    n_classes = len(classes)
    logits, rows = predict_held_out(method, support, n_classes)
    once = np.unique(support.copies[rows], return_index=True)[1]  # one image of each set of copies
    temperature = fit_temperature(logits[once], support.labels[rows[once]]) if method.calibrate else None
    evident = HEADS[method.name].evidence_in_logits
    known = log_sum_exp(logits) if evident else _score_left_out(support, method.unit)
    threshold = _find_threshold(method, support, n_classes, known, rows) if method.refuses else None
    arrays = method.fit(support, n_classes)
    divisor = 1.0 if temperature is None else temperature
    groups = _join_groups(support)
    probabilities = np.exp(log_softmax(logits / divisor)) if len(logits) else logits
    scores = SetScores.of(probabilities, support.labels[rows], None if groups is None else groups[rows])
    drift = DriftReference.collect(probabilities, rows, support.labels, groups, support.features, known, threshold)
    return Learned(classes, support, arrays, divisor, temperature is not None, threshold, scores, drift)


def predict_held_out(method: Method, support: Support, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Predict held-out images by heads fitted without their group: logits (m, n_classes), and their rows (m,)."""
    fold = deal_folds(support.labels, _join_groups(support))
    logits, which = [np.zeros((0, n_classes))], [np.zeros(0, np.int64)]
    for number in np.unique(fold[fold >= 0]):
        rows = np.flatnonzero(fold == number)
        arrays = method.fit(support.select(fold != number), n_classes)
        logits.append(method.logits(arrays, support.features[rows]))
        which.append(rows)
    return np.concatenate(logits), np.concatenate(which)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit the temperature by golden sections, as the estimator does; None without images."""
    if not len(logits):
        return None

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits * np.exp(-log_temperature))[np.arange(len(labels)), labels].mean())

    def too_sure(log_temperature: float) -> float:
        confidence = np.exp(log_softmax(logits * np.exp(-log_temperature)).max(1)).mean()
        return float(confidence) - (len(logits) + 1) / (len(logits) + 2)

    low, high = LOG_TEMPERATURES
    while high - low > 1e-7:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    best = (low + high) / 2
    if too_sure(best) > 0:
        best = _find_root(too_sure, best, LOG_TEMPERATURES[1])
    return float(np.exp(best))


def _find_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find by bisection where a function that is positive at `low` and not at `high` becomes 0."""
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _score_left_out(support: Support, unit: bool) -> np.ndarray:
    """Score how well images that are left out fit any class, (m,), in the order of `predict_held_out`."""
    fold = deal_folds(support.labels, _join_groups(support))
    left_out = [fold == number for number in np.unique(fold[fold >= 0])]
    return np.concatenate([np.zeros(0), *score_left_out_rows(support.features, support.labels, left_out, unit)])


def _find_threshold(method: Method, support: Support, n_classes: int, known: np.ndarray, rows: np.ndarray) -> float:
    """As `fewshot.estimator.rejection.Rejection.learn`: each class is taken for unknown in turn, each fold left out.

    `known` (m,): scores of left-out images; `rows` (m,): which these are.
    """
    if n_classes < 3:
        raise DataError(f"to tell images of no known class apart, three classes are needed; there are {n_classes}")
    evident, labels = HEADS[method.name].evidence_in_logits, support.labels
    classes = [labels == label for label in range(n_classes)]
    if evident:
        parts = [_score_by_other_classes(method, support, mine, n_classes) for mine in classes]
    else:
        parts = score_left_out_rows(support.features, labels, classes, method.unit)
    unknown = np.zeros(len(support))
    for mine, part in zip(classes, parts, strict=True):
        unknown[mine] = part
    groups = _join_groups(support)
    weights = weigh_groups(labels[rows], None if groups is None else groups[rows])
    return RefusalScores(known, weights, rows, unknown, weigh_groups(labels, groups), labels).choose_threshold(method)


def _score_by_other_classes(method: Method, support: Support, mine: np.ndarray, n_classes: int) -> np.ndarray:
    """Score the images `mine` (n,) of one class by the logits of a fit to the others."""
    others = support.select(~mine)
    others = replace(others, labels=np.unique(others.labels, return_inverse=True)[1])
    return method.score_known(method.fit(others, n_classes - 1), others, support.features[mine])


def _join_groups(support: Support) -> np.ndarray | None:
    return join_groups(support.groups, support.copies)


def list_sets(learned: Learned, probabilities: np.ndarray, coverage: float) -> list[list[Any]]:
    """List the classes in each image's set, likeliest first; raises `DataError` if the coverage cannot be promised."""
    if learned.set_scores is None:
        raise DataError("this classifier was exported without prediction sets: fit it with calibrate=True")
    chosen = choose_sets(probabilities, learned.set_scores.find_bounds(coverage, len(learned.classes)))
    order = np.argsort(-probabilities, 1, kind="stable")
    return [[learned.classes[c].item() for c in row if inside[c]] for row, inside in zip(order, chosen, strict=True)]
