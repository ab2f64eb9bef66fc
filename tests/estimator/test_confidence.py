"""Temperature, calibration error, AUROC, thresholds and folds against scikit-learn and hand-worked numbers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fewshot import EpisodeSpec, FewShotClassifier, ImageSet, create_method, evaluate
from fewshot.errors import DataError
from fewshot.estimator import fitting
from fewshot.estimator.confidence import (
    compute_auroc,
    compute_calibration_error,
    fit_temperature,
)
from fewshot.estimator.fitting import predict_held_out
from fewshot.estimator.open_set import measure_confidence
from fewshot.estimator.ranks import deal_folds
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.runtime import seeding


def test_temperature_undoes_a_known_scale():
    """Labels are drawn from softmax(z); for logits 5 z the right temperature is therefore 5."""
    draw = seeding.numpy_generator(0, "temperature")
    z = draw.normal(size=(20_000, 3))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (p.cumsum(1) < draw.random((len(z), 1))).sum(1)
    assert fit_temperature(torch.from_numpy(5 * z), torch.from_numpy(labels)) == pytest.approx(5, rel=0.05)


def test_temperature_of_two_classes_in_closed_form():
    """Logits (±1, 0), right 3 times of 4: log-odds of 3/4 are ln 3, so T = 1 / ln 3."""
    logits = torch.tensor([[1.0, 0.0]] * 4)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 / np.log(3), rel=1e-4)


def test_a_few_right_answers_do_not_prove_certainty():
    """Logits (1, 0), eight of eight right: confidence 9/10 by the rule of succession, log-odds ln 9, T = 1 / ln 9."""
    logits, labels = torch.tensor([[1.0, 0.0]] * 8), torch.zeros(8, dtype=torch.int64)
    assert fit_temperature(logits, labels) == pytest.approx(1 / np.log(9), rel=1e-6)
    assert fit_temperature(logits, 1 - labels) > 1000  # all wrong: nothing is known


def test_calibration_error_by_hand():
    """Bins of width 1/2: (0.6 wrong, 0.8 right) -> |0.5 − 0.7| · 2/3; (0.5 right) -> |1 − 0.5| · 1/3."""
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    assert compute_calibration_error(probabilities, np.array([1, 1, 0]), 2) == pytest.approx(0.4 / 3 + 0.5 / 3)
    assert compute_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_auroc_is_scikit_learns():
    draw = seeding.numpy_generator(0, "auroc")
    known, unknown = draw.integers(0, 6, 40) + 1.0, draw.integers(0, 6, 30) + 0.0  # with ties
    expected = roc_auc_score([1] * 40 + [0] * 30, np.concatenate([known, unknown]))
    assert compute_auroc(known, unknown) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(DataError, match="0 unknown"):
        compute_auroc(known, np.zeros(0))


def test_groups_of_one_class_each_are_dealt_class_by_class():
    """Otherwise a fold could leave out several groups of one class and none of another."""
    labels = np.repeat([0, 1, 2], 4)
    assert deal_folds(labels, np.arange(12)).tolist() == deal_folds(labels, None).tolist() == [0, 1, 2, 3] * 3


def test_folds_keep_groups_together_and_no_class_empty():
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert deal_folds(labels, None).tolist() == [0, 1, 2, 0, 1, -1]  # class 2 has one image: never held out
    groups = np.array(["b", "b", "a", "a", "c", "c"])
    fold = deal_folds(labels, groups)
    assert fold[0] == fold[1]
    assert fold[2] == fold[3]
    assert fold[5] == -1
    assert len({fold[0], fold[2]}) == 2


def test_held_out_images_see_nothing_of_their_group():
    labels, groups = np.array([0, 0, 1, 1, 0, 1]), np.array(list("aabbcc"))
    seen = []

    def predict(rows, queries):
        for some, asked in zip(rows, queries, strict=True):
            assert not set(groups[some]) & set(groups[asked])
            assert sorted([*some, *asked]) == list(range(6))
            seen.extend(asked)
        return torch.from_numpy(queries)[..., None].expand(-1, -1, 2)

    logits, which = predict_held_out(predict, labels, groups)
    assert sorted(which) == sorted(seen) == list(range(6))
    assert logits.tolist() == [[row, row] for row in which]


@pytest.mark.parametrize("method", ["baseline", "gda", "nearest"])
@pytest.mark.parametrize("bytes_at_once", [fitting.FOLD_BYTES, 1])
def test_folds_that_are_predicted_together_are_independent(monkeypatch, method, bytes_at_once):
    """Groups of unequal size: two folds of the same size, and others."""
    monkeypatch.setattr(fitting, "FOLD_BYTES", bytes_at_once)
    data = blobs(1.0)
    rows = np.flatnonzero(data.labels < 3)[::6]  # 5 images of each of 3 classes
    labels, groups = data.labels[rows], np.array(list("aabbcaabbdeabbf"))
    features = data.values[torch.from_numpy(rows)].double().numpy()
    options = {"backbone": None, "method": method, "calibrate": False}
    fitted = FewShotClassifier(**options).fit(features, labels, groups).fitted_
    logits, which = fitted.held_out
    fold = deal_folds(labels, groups)
    assert len({(fold == number).sum() for number in np.unique(fold)}) > 1
    for number in np.unique(fold):
        others = fold != number
        alone = FewShotClassifier(**options).fit(features[others], labels[others], groups[others])
        found = logits[torch.from_numpy(np.isin(which, np.flatnonzero(~others)))]
        assert len(found) == (~others).sum() > 0
        torch.testing.assert_close(found, alone.logits(features[~others]), rtol=1e-5, atol=1e-5)


def test_one_image_a_class_gives_nothing_held_out():
    logits, which = predict_held_out(lambda rows, queries: 1 / 0, np.array([0, 1, 2]), None)
    assert logits.shape == (0, 3)
    assert len(which) == 0
    with pytest.raises(DataError, match="held-out"):
        fit_temperature(logits, torch.zeros(0, dtype=torch.int64))


def blobs(spread: float) -> FeatureSet:
    """Features of twelve classes of 30 points in 16 dimensions; `spread`: standard deviation of the class means."""
    draw = seeding.numpy_generator(0, "blobs")
    labels = np.repeat(np.arange(12), 30)
    features = spread * draw.normal(size=(12, 16))[labels] + draw.normal(size=(360, 16))
    images = np.zeros((360, 1, 1, 1), np.uint8)
    return FeatureSet(ImageSet(images, labels, [str(c) for c in range(12)]), torch.from_numpy(features).float())


def test_confidence_on_classes_that_stand_far_apart():
    found = measure_confidence(blobs(10.0), n_episodes=20, method="nearest")
    assert found.accuracy.mean == 1
    assert found.auroc.mean > 0.99
    assert found.false_accept.mean <= 0.2
    assert found.false_reject.mean < 0.25  # the threshold comes from twenty images


def test_a_temperature_from_the_support_mends_overconfidence():
    found = measure_confidence(blobs(0.5), n_shot=6, n_episodes=40, method="protonet")
    answers = evaluate(create_method("protonet", None), blobs(0.5), EpisodeSpec(10, 6, 10), 40)
    assert found.accuracy.mean > answers.mean  # 5-way episodes are easier than 10-way ones of the same classes
    assert found.ece_before.mean > 0.1
    assert found.ece_after.mean < found.ece_before.mean / 2
    assert 0.5 < found.auroc.mean < 0.95


def test_classes_without_structure_cannot_be_told_from_unknown_ones():
    found = measure_confidence(blobs(0.0), n_episodes=40)
    assert abs(found.accuracy.mean - 0.2) <= 2 * found.accuracy.half_width_95
    assert abs(found.auroc.mean - 0.5) <= 2 * found.auroc.half_width_95
    assert abs(found.false_accept.mean - 0.1) < 0.1
