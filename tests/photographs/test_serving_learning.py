"""What a predictor learns by numpy alone is what the estimator learns with torch and scipy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot import FewShotClassifier
from fewshot.errors import DataError
from fewshot.estimator.whitening import Whitening
from fewshot.photographs.serving.changing import append_class, drop_class, learn_anew
from fewshot.photographs.serving.export import describe_method
from fewshot.photographs.serving.heads import HEADS, log_softmax
from fewshot.photographs.serving.learning import list_sets
from fewshot.runtime import seeding

LAYOUT = (8, 2, 4)
METHODS = {
    "baseline": ("baseline", {"solver": "logistic", "c": 10.0, "normalize": True}),
    "baseline, raw": ("baseline", {"solver": "logistic", "c": 0.1}),
    "baseline++": ("baseline++", {"solver": "logistic", "scale": 3.0}),
    "protonet": ("protonet", {"temperature": 7.0}),
    "simpleshot UN": ("simpleshot", {"transform": "UN"}),
    "simpleshot L2N": ("simpleshot", {"transform": "L2N"}),
    "gda": ("gda", {}),
    "gda, raw and shrunk": ("gda", {"normalize": False, "shrinkage": 0.9}),
    "meta-baseline": ("meta-baseline", {}),
    "matching": ("matching", {}),
    "matching, distances": ("matching", {"similarity": "squared_euclidean"}),
    "nearest": ("nearest", {}),
    "nearest 3": ("nearest", {"k": 3, "metric": "cosine"}),
    "r2d2": ("r2d2", {"init_lambda": 3.0}),
    "aligned": ("aligned", {"layout": list(LAYOUT)}),
    "aligned, cues": (
        "aligned",
        {"layout": list(LAYOUT), "cues": [5, 1], "colour_weight": 0.3, "size_spread": 1.5},
    ),
}


def draw_features(n_classes: int, n_each: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that overlap, so that held-out images are not all right."""
    rng = seeding.numpy_generator(0, "features", name)
    labels = np.repeat(np.arange(n_classes), n_each)
    width = 20 + int(np.prod(LAYOUT))
    centres = rng.normal(0, 0.6, (n_classes, width))
    return (centres[labels] + rng.normal(0, 1, (len(labels), width))).astype(np.float32), labels


@pytest.fixture(params=METHODS, scope="module")
def pair(request):
    """A fitted classifier of features, and what a predictor learns of the same ones; queries."""
    method, options = METHODS[request.param]
    features, labels = draw_features(4, 6, "support")
    groups = [f"g{i // 2}" for i in range(len(labels))]
    queries = np.concatenate([draw_features(4, 10, "support")[0], draw_features(3, 10, "strange")[0]])
    classifier = FewShotClassifier(
        None, method, method_options=options, false_accept_rate=0.2, device="cpu", precision="float32"
    )
    classifier.fit(features, labels, groups)
    described, fixed = describe_method(classifier)
    assert fixed is None
    digests = features.view(np.uint8)[:, :8].copy()
    learned = learn_anew(described, features, labels, np.array(groups), digests)
    return classifier, described, learned, queries


def assert_same(classifier, method, learned, queries) -> None:
    probabilities = np.exp(log_softmax(method.logits(learned.arrays, queries) / learned.temperature))
    np.testing.assert_allclose(probabilities, classifier.predict_proba(queries), atol=1e-4)
    assert learned.temperature == pytest.approx(classifier.temperature_, rel=1e-3)
    assert learned.calibrated == classifier.calibrated_
    scores = method.score_known(learned.arrays, learned.support, queries)
    accepted = classifier.rejection_.accept(classifier.fitted_, torch.from_numpy(queries.astype(np.float32)))
    np.testing.assert_array_equal(scores >= learned.threshold, accepted)
    assert 0 < accepted.sum() < len(queries)
    sets = list_sets(learned, probabilities, 0.8)
    chosen = classifier.predict_set(queries, 0.8)
    assert [sorted(names) for names in sets] == [sorted(classifier.classes_[row].tolist()) for row in chosen]
    assert [names[0] for names in sets] == learned.classes[probabilities.argmax(1)].tolist()


def test_probabilities_and_refusals_are_those_of_the_estimator(pair):
    assert_same(*pair)


def test_a_class_more_and_a_class_less_are_learned_alike(pair):
    classifier, method, learned, queries = pair
    more = draw_features(1, 5, "more")[0]
    groups = list("aabbc")
    classifier.add_class(9, more, groups)
    grown = append_class(method, learned, 9, more, np.array(groups), more.view(np.uint8)[:, :8].copy())
    assert_same(classifier, method, grown, queries)
    classifier.remove_class(9)
    assert_same(classifier, method, drop_class(method, grown, 9), queries)


def test_what_scores_need_is_computed_once_for_each_set_of_classes(pair, monkeypatch):
    _, method, learned, queries = pair
    made = []
    prepare = Whitening.__init__
    monkeypatch.setattr(Whitening, "__init__", lambda self, *given: (made.append(given), prepare(self, *given))[1])
    more = draw_features(1, 5, "more")[0]
    grown = append_class(method, learned, 9, more, np.array(list("aabbc")), more.view(np.uint8)[:, :8].copy())
    for known in (replace(learned), grown, drop_class(method, grown, 9)):
        made.clear()
        scores = [known.score_known(method, queries) for _ in range(3)]
        assert len(made) == (0 if HEADS[method.name].evidence_in_logits else 1)
        expected = method.score_known(known.arrays, known.support, queries)
        np.testing.assert_array_equal(scores, np.broadcast_to(expected, (3, len(queries))))


def test_the_same_picture_in_two_classes_is_refused(pair):
    _, method, learned, _ = pair
    same = learned.support.features[:1], np.array(["g0"]), learned.support.digests[:1]
    with pytest.raises(DataError, match="the same picture in two classes: images 0 and 24"):
        append_class(method, learned, 9, *same)


def test_groups_are_for_all_or_none_and_a_class_comes_once(pair):
    _, method, learned, _ = pair
    features, digests = learned.support.features[:2], np.zeros((2, 8), np.uint8)
    with pytest.raises(DataError, match="learned with groups"):
        append_class(method, learned, 9, features, None, digests)
    with pytest.raises(DataError, match="there is a class 3 already"):
        append_class(method, learned, 3, features, np.array(["a", "b"]), digests)
    with pytest.raises(DataError, match="all words or all numbers"):
        append_class(method, learned, "nine", features, np.array(["a", "b"]), digests)
    with pytest.raises(DataError, match="there is no class 7"):
        drop_class(method, learned, 7)
