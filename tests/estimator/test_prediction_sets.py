"""Prediction sets against ranks counted by hand, and their coverage on data that are exchangeable by construction."""

import numpy as np
import pytest

from fewshot import FewShotClassifier
from fewshot.errors import DataError
from fewshot.estimator.prediction_sets import SetScores, choose_sets
from fewshot.estimator.ranks import weigh_groups
from fewshot.runtime import seeding


def scores_of(values, labels=None) -> SetScores:
    labels = np.zeros(len(values), int) if labels is None else np.asarray(labels)
    return SetScores(np.asarray(values, float), labels, np.ones(len(values)))


def test_the_bound_is_the_rank_of_split_conformal_prediction():
    scores = scores_of(np.arange(9)[::-1] / 10, labels=np.arange(9))  # a class each: they decide together
    assert scores.find_bounds(0.7, 9).tolist() == [0.6] * 9  # 0.7 · 10: the seventh lowest
    assert scores.find_bounds(0.9, 9).tolist() == [0.8] * 9  # 0.9 · 10: the ninth
    with pytest.raises(DataError, match=r"in 95.0% of cases need 19 .* there are 9, enough for coverage=0.900"):
        scores.find_bounds(0.95, 9)


def test_a_class_with_enough_groups_decides_for_itself():
    labels = [0] * 19 + [1] * 18
    scores = scores_of([0.9] * 19 + [0.1] * 18, labels)
    assert scores.find_bounds(0.95, 2).tolist() == [0.9, 0.9]  # class 1 has one too few: all 37 decide
    more = scores_of([0.9] * 19 + [0.1] * 19, [0] * 19 + [1] * 19)
    assert more.find_bounds(0.95, 2).tolist() == [0.9, 0.1]


def test_images_of_one_group_are_one_observation():
    labels, groups = np.array([0, 0, 0, 1, 1, 1]), np.array(list("aabaac"))
    assert weigh_groups(labels, groups).tolist() == [0.5, 0.5, 1, 0.5, 0.5, 1]
    assert weigh_groups(labels, None).tolist() == [1] * 6
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.5, 0.5]])
    scores = SetScores.of(probabilities, labels, groups)
    assert scores.n_observations == 4
    np.testing.assert_allclose(scores.scores, [0.1, 0.4, 0.3, 0.2, 0.2, 0.5])
    # sorted 0.1 (½) 0.2 (1) 0.2 (1½) 0.3 (2½) 0.4 (3) 0.5 (4): 0.8 · 5 and 0.7 · 5 observations
    assert scores.find_bounds(0.8, 2) == pytest.approx([0.5, 0.5])
    assert scores.find_bounds(0.7, 2) == pytest.approx([0.45, 0.45])  # half way from 3 to 4
    # two groups a class are enough for 0.6: 0.1 (½) 0.3 (1½) 0.4 (2) and 0.2 (½) 0.2 (1) 0.5 (2), 0.6 · 3 observations
    assert scores.find_bounds(0.6, 2) == pytest.approx([0.36, 0.44])


def test_the_likeliest_class_is_always_in_the_set():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.15, 0.75]])
    assert choose_sets(probabilities, np.array([0.4, 0.7, 0.4])).tolist() == [[True, True, False], [False, False, True]]
    assert choose_sets(probabilities, np.zeros(3)).tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize("coverage", [0.7, 0.8, 0.9])
def test_a_further_image_is_covered_as_often_as_promised(coverage):
    """Its score lies in each of the 10 places among 9 others with the same chance."""
    bound = scores_of(np.arange(9.0), labels=np.arange(9)).find_bounds(coverage, 9)[0]
    assert (np.arange(10) - 0.5 <= bound).mean() == pytest.approx(coverage)


def test_between_two_ranks_a_share_is_covered_that_lies_between():
    """Scores and the further one are uniform: every coverage is met, where the next rank would cover 0.97."""
    draw = seeding.numpy_generator(0, "uniform").random((20_000, 33))
    covered = [row[32] <= scores_of(row[:32]).find_bounds(0.95, 1)[0] for row in draw]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, float("nan")])
def test_an_impossible_coverage_is_refused(coverage):
    with pytest.raises(DataError, match="coverage is a share between 0 and 1"):
        scores_of([0.1, 0.2]).find_bounds(coverage, 2)


def clouds(n_images: int, spread: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of four classes about the corners of a square."""
    draw, labels = seeding.numpy_generator(0, name), np.repeat(np.arange(4), n_images)
    centres = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])
    return centres[labels] + spread * draw.normal(size=(len(labels), 2)), labels


def test_sets_of_a_classifier_hold_the_right_class_as_often_as_asked(tmp_path):
    classifier = FewShotClassifier(None, method="gda", method_options={"normalize": False, "shrinkage": 0.5})
    queries, truth = clouds(500, 0.8, "queries")
    covered, sizes = [], []
    for i in range(20):
        classifier.fit(*clouds(8, 0.8, f"support {i}"))
        sets = classifier.predict_set(queries, coverage=0.9)
        assert sets[np.arange(len(truth)), classifier.logits(queries).argmax(1)].all()
        covered.append(sets[np.arange(len(truth)), truth].mean())
        sizes.append(sets.sum(1).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=3 * np.std(covered) / 20**0.5 + 0.01)
    assert 1 < np.mean(sizes) < 3
    classifier.save(tmp_path / "a.fewshot")
    loaded = FewShotClassifier.load(tmp_path / "a.fewshot")
    assert np.array_equal(loaded.predict_set(queries, coverage=0.9), sets)
    wider = classifier.predict_set(queries, coverage=0.96)
    assert (wider >= sets).all()
    assert wider.sum() > sets.sum()
    with pytest.raises(DataError, match=r"32, enough for coverage=0.970"):
        classifier.predict_set(queries, coverage=0.98)


def test_one_image_a_class_promises_nothing():
    classifier = FewShotClassifier(None, method="nearest").fit(np.eye(3), ["a", "b", "c"])
    with pytest.raises(DataError, match=r"there is one photograph .* a class, take a second one"):
        classifier.predict_set(np.eye(3), coverage=0.5)


def test_groups_that_share_a_photograph_are_counted_once():
    X, y = clouds(6, 0.5, "groups")
    grouped = FewShotClassifier(None, method="nearest").fit(X, y, groups=np.arange(24) // 3)
    assert grouped.set_scores_.n_observations == 8
    with pytest.raises(DataError, match=r"there are 8, enough for coverage=0.889"):
        grouped.predict_set(X, coverage=0.9)
