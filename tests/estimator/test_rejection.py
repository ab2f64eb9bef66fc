"""Refusals: scores against whitening written out, thresholds against ranks and quantiles, and what they cost."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

from fewshot import FewShotClassifier, create_method
from fewshot.config.classifier import RefusalOptions
from fewshot.errors import ConfigError, DataError
from fewshot.estimator.familiarity import score_as_unknown, score_known, score_left_out
from fewshot.estimator.fitting import FittedMethod
from fewshot.estimator.support import Support
from fewshot.estimator.thresholds import (
    GAP,
    KNOWN_SHARE,
    LOWEST,
    SPREAD,
    RefusalScores,
    find_known_bound,
    find_student_quantile,
    weigh_moments,
)
from fewshot.estimator.whitening import DISTANCE_WEIGHT, SHRINKAGE, score_left_out_rows, score_whitened
from fewshot.runtime import seeding

LABELS = np.repeat([0, 1, 2], 4)


def fitted_to(X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> FittedMethod:
    encoder = SimpleNamespace(method=create_method("protonet", None), device=torch.device("cpu"))
    names = tuple(map(str, range(len(y))))
    return FittedMethod(
        encoder, Support(torch.from_numpy(X).float(), y, groups, names, independent=groups), int(y.max()) + 1
    )


def clouds(n_images: int, name: str, n_classes: int = 3, dim: int = 8, spread: float = 2.0) -> np.ndarray:
    centres = seeding.numpy_generator(0, "centres").normal(size=(40, dim))[:n_classes]
    draw = seeding.numpy_generator(0, name)
    return spread * np.repeat(centres, n_images, 0) + draw.normal(size=(n_classes * n_images, dim))


def whiten_and_score(X: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """By the eigenvectors of the covariance, one query after the other."""
    X, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (X, queries))
    means = np.stack([X[y == c].mean(0) for c in np.unique(y)])
    within = X - np.stack([X[y == c].mean(0) for c in y])
    n, dim = X.shape
    covariance = (1 - SHRINKAGE) * within.T @ within / n + SHRINKAGE * np.square(within).sum() / (dim * n) * np.eye(dim)
    values, vectors = np.linalg.eigh(covariance)
    X, means, queries = (x @ vectors / np.sqrt(values) for x in (X, means, queries))
    about, scores = X - means.mean(0), []
    for query in queries:
        off = query - means.mean(0)
        cosines = about @ off / np.linalg.norm(about, axis=1) / np.linalg.norm(off)
        scores.append(cosines.max() - DISTANCE_WEIGHT * np.square(query - means).sum(1).min() / dim)
    return np.array(scores)


def test_the_score_is_that_of_whitened_features():
    X, queries = clouds(4, "support"), clouds(3, "queries")
    fitted = fitted_to(X, LABELS)
    np.testing.assert_allclose(score_known(fitted, torch.from_numpy(queries)), whiten_and_score(X, LABELS, queries),
                               rtol=1e-4)  # fmt: skip
    unknown = score_as_unknown(fitted)
    for label in range(3):
        mine = label == LABELS
        expected = whiten_and_score(X[~mine], LABELS[~mine], X[mine])
        np.testing.assert_allclose(unknown[mine], expected, rtol=1e-4)


def test_left_out_images_are_scored_by_fits_without_their_group():
    X, groups = clouds(4, "support"), np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    scores, rows = score_left_out(fitted_to(X, LABELS, groups))
    assert sorted(rows) == list(range(12))
    first = np.isin(groups, [0, 2, 4])  # one group of each class is a fold
    for fold in (first, ~first):
        expected = whiten_and_score(X[~fold], LABELS[~fold], X[fold])
        np.testing.assert_allclose(scores[np.isin(rows, np.flatnonzero(fold))], expected, rtol=1e-4)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(("n_images", "dim"), [(4, 30), (4, 8), (2, 30)])  # few images, many, one a class left
def test_scores_from_inner_products_are_those_of_the_features(n_images, dim, unit):
    X = clouds(n_images, "support", 5, dim) + 3
    X[n_images + 1] = X[n_images]  # a copy
    labels = np.repeat(np.arange(5), n_images)
    left_out = [labels == label for label in range(5)] + [np.arange(len(X)) % n_images == k for k in range(n_images)]
    found = score_left_out_rows(X, labels, left_out, unit)
    assert len(found) == len(left_out)
    for scores, out in zip(found, left_out, strict=True):
        expected = score_whitened(X, np.where(out, -1, labels), X[out], unit)
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


def scores_of(known: np.ndarray, unknown: np.ndarray, n_classes: int) -> RefusalScores:
    labels = np.arange(len(unknown)) % n_classes
    rows = np.arange(len(known))
    return RefusalScores(known, np.ones(len(known)), rows, unknown, np.ones(len(unknown)), labels)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.99])
def test_a_further_known_image_is_refused_no_more_often_than_allowed(rate):
    """Its score lies in each of the 20 places among 19 others with the same chance."""
    refused = (np.arange(20) - 0.5 < find_known_bound(np.arange(19.0), np.ones(19), rate)).mean()
    assert refused <= rate + 1e-9
    assert refused + 1 / 20 > rate


def test_copies_and_groups_are_one_observation_in_the_bound():
    scores, once = np.array([0.1, 0.1, 0.1, 0.5, 0.9]), np.array([1 / 3, 1 / 3, 1 / 3, 1, 1])
    assert find_known_bound(scores, once, 0.25) == pytest.approx(0.1)  # 0.25 · 4: the lowest of three
    assert find_known_bound(scores, once, 0.5) == pytest.approx(0.5)
    assert find_known_bound(scores, once, 0.2) == -np.inf


def test_the_threshold_for_strange_images_by_hand():
    known, unknown = np.tile([4.0, 8.0], 8), np.tile([0.0, 2.0], 8)  # four classes of four: means 6, 1; deviations 2, 1
    level = (1 - KNOWN_SHARE) * 1 + KNOWN_SHARE * (6 - GAP * 2 * 2)
    spread = np.sqrt((1 - KNOWN_SHARE) * 1 + KNOWN_SHARE * (SPREAD * 2) ** 2)
    far = t(3).isf(1 - 0.9 ** (3 / 4)) * np.sqrt(5 / 4)
    expected = level + far * spread
    scores = scores_of(known, unknown, 4)
    assert scores.choose_threshold(RefusalOptions(false_accept_rate=0.1)) == pytest.approx(expected)
    low = scores_of(known - 6, unknown, 4).choose_threshold(RefusalOptions(false_accept_rate=0.1))
    assert low == pytest.approx(1 + far * spread)  # known scores lower no level
    alone = scores_of(known[:0], unknown, 4).choose_threshold(RefusalOptions(false_accept_rate=0.1))
    assert alone == pytest.approx(1 + far)
    strictest = scores.choose_threshold(RefusalOptions(false_accept_rate=0.0))  # the rate of 1 in 1,000
    assert strictest == pytest.approx(level + t(3).isf(1 - 0.999 ** (3 / 4)) * spread * np.sqrt(5 / 4))
    highest = scores_of(known, np.append(unknown[1:], 99.0), 4).choose_threshold(RefusalOptions(false_accept_rate=0.0))
    assert highest > 99  # no score that was seen is accepted


@pytest.mark.parametrize("n_degrees", [1, 2, 3, 4, 7, 40, 501])
def test_students_quantile_is_scipys(n_degrees):
    for rate in (1e-6, 0.01, 0.1, 0.5, 0.8, 0.999):
        assert find_student_quantile(rate, n_degrees) == pytest.approx(t(n_degrees).isf(rate), rel=1e-7, abs=1e-12)


def test_how_far_scores_lie_below_moves_no_threshold():
    """Scores 0, 1, …, 20: the median is 10, and 84% of the weight (which is in the middle of each) lies below 17.2."""
    scores, weights = np.arange(21.0), np.ones(21)
    above = 21 * norm.cdf(1) - 0.5 - 10
    expected = np.maximum(scores, 10 - LOWEST * above)
    assert expected[0] > 0
    far = np.append(scores[1:], -1000.0)
    for some in (scores, far):
        assert weigh_moments(some, weights) == pytest.approx((expected.mean(), expected.std()))
    known = np.linspace(8, 30, 16)
    asked = RefusalOptions(false_accept_rate=0.1)
    thresholds = [scores_of(known, unknown, 3).choose_threshold(asked) for unknown in (scores, far)]
    assert thresholds[0] == pytest.approx(thresholds[1])


def test_balanced_refuses_as_many_as_it_accepts():
    known, unknown = np.tile([4.0, 8.0], 8), np.tile([0.0, 2.0], 8)
    scores = scores_of(known, unknown, 4)
    threshold = scores.choose_threshold(RefusalOptions(balanced=True))
    refused = norm.cdf((threshold - 6) / 2)
    assert scores.choose_threshold(RefusalOptions(false_accept_rate=refused)) == pytest.approx(threshold)


def test_what_is_promised_holds_on_the_average():
    """Known and strange images of a classifier with ten classes: shares of both that were asked for."""
    strange = clouds(40, "strange", 40)[10 * 40 :]
    accepted, refused = [], []
    for i in range(20):
        X, y = clouds(5, f"support {i}", 10), np.repeat(np.arange(10), 5)
        by_accepts = FewShotClassifier(None, "gda", false_accept_rate=0.1).fit(X, y)
        by_refusals = FewShotClassifier(None, "gda", false_reject_rate=0.1).fit(X, y)
        accepted.append(np.mean(by_accepts.predict(strange).astype(str) != "none of these"))
        refused.append(np.mean(by_refusals.predict(clouds(40, "known", 10)).astype(str) == "none of these"))
    assert 0.03 < np.mean(accepted) < 0.17
    assert 0.05 < np.mean(refused) < 0.11


def test_the_three_ways_exclude_each_other_and_need_left_out_images():
    X, y = np.eye(4), np.arange(4)
    with pytest.raises(ConfigError, match="false_accept_rate and balanced are different ways"):
        FewShotClassifier(None, "nearest", false_accept_rate=0.1, balanced=True).fit(X, y)
    with pytest.raises(ConfigError, match=r"false_reject_rate is a share between 0 and 1, got 1\.0"):
        FewShotClassifier(None, "nearest", false_reject_rate=1.0).fit(X, y)
    for asked in ({"balanced": True}, {"false_reject_rate": 0.1}):
        with pytest.raises(DataError, match=r"one photograph .* a class tells nothing of how many known"):
            FewShotClassifier(None, "nearest", **asked).fit(X, y)
    assert FewShotClassifier(None, "nearest", false_accept_rate=0.1).fit(X, y).rejection_.threshold < np.inf
