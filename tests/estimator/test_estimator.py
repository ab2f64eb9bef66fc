"""`FewShotClassifier`: scikit-learn's own checks, every kind of image, classes that come and go, files, bad input."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from fewshot import FewShotClassifier
from fewshot.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from fewshot.estimator import storage
from fewshot.estimator.encoder import Encoder
from fewshot.runtime import seeding
from fewshot.runtime.checkpoint import save_checkpoint

COLOURS = {"blau": (20, 40, 200), "grün": (30, 180, 60), "rot": (210, 40, 30), "gelb": (220, 200, 40)}


def small(**options) -> FewShotClassifier:
    given = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}
    return FewShotClassifier(**given | options)


def picture(name: str, number: int, side: int = 20) -> np.ndarray:
    """A noisy square of the class's colour, (side, side, 3) uint8."""
    noise = seeding.numpy_generator(0, name, number).normal(0, 25, (side, side, 3))
    return (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)


def coloured(n_each: int = 4, names: tuple[str, ...] = ("blau", "grün", "rot")) -> tuple[list[np.ndarray], list[str]]:
    labels = [name for name in names for _ in range(n_each)]
    return [picture(name, number) for number, name in enumerate(labels)], labels


@parametrize_with_checks([FewShotClassifier(backbone=None)])
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_the_default_head_is_scikit_learns_logistic_regression():
    draw = seeding.numpy_generator(0, "blobs")
    X, y = draw.normal(size=(30, 5)) + np.repeat(np.eye(3, 5) * 2, 10, 0), np.repeat([0, 1, 2], 10)
    options = {"solver": "logistic", "c": 2.0}
    ours = FewShotClassifier(None, method_options=options, calibrate=False).fit(X, y)
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=2000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_paths_pillow_arrays_and_tensors_are_one_image(tmp_path):
    images, labels = coloured()
    paths = [tmp_path / f"münze {number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    forms = {
        "paths": paths,
        "strings": [str(path) for path in paths],
        "pillow": [Image.fromarray(image) for image in images],
        "array": np.stack(images),
        "floats": np.stack(images) / 255,
        "tensor": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        "opaque": [np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]) for image in images],
    }
    expected = small().fit(images, labels).predict_proba(images)
    for form, given in forms.items():
        np.testing.assert_array_equal(small().fit(given, labels).predict_proba(given), expected, err_msg=form)


def test_classes_are_learnt_and_probabilities_sum_to_one():
    images, labels = coloured(5)
    classifier = small().fit(images[:12] + images[12:14], labels[:14])  # 5, 5 and 4 images
    others = [picture(name, 100 + i) for i, name in enumerate(labels)]
    assert classifier.score(others, labels) == 1
    assert classifier.classes_.tolist() == ["blau", "grün", "rot"]
    np.testing.assert_allclose(classifier.predict_proba(others).sum(1), 1, atol=1e-12)


def test_two_classes_of_one_image_and_many_classes():
    images, _ = coloured(1, ("blau", "rot"))
    classifier = small().fit(images, [7, 3])
    assert classifier.predict(images).tolist() == [7, 3]
    assert not classifier.calibrated_
    assert classifier.temperature_ == 1
    X = np.eye(300)
    assert FewShotClassifier(None, method="nearest").fit(X, np.arange(300)).score(X, np.arange(300)) == 1


def test_a_class_comes_and_goes_without_a_second_look_at_the_others(monkeypatch):
    images, labels = coloured(4, ("blau", "gelb", "rot"))
    more = [picture("grün", 50 + i) for i in range(3)]
    whole = small().fit(images + more, labels + ["grün"] * 3)
    classifier = small().fit(images, labels)
    seen = []
    content = Encoder.compute_content
    monkeypatch.setattr(
        Encoder, "compute_content", lambda self, pixels: seen.append(len(pixels)) or content(self, pixels)
    )
    classifier.add_class("grün", more)
    assert seen == [3]
    assert classifier.classes_.tolist() == ["blau", "gelb", "grün", "rot"]
    np.testing.assert_allclose(classifier.predict_proba(images), whole.predict_proba(images), atol=1e-3)
    before = small().fit(images, labels).predict_proba(images)
    np.testing.assert_allclose(classifier.remove_class("grün").predict_proba(images), before, atol=1e-3)


def test_a_file_gives_the_same_answers(tmp_path):
    images, labels = coloured()
    classifier = small(false_accept_rate=0.2).fit(images, labels, groups=list(range(12)))
    classifier.save(tmp_path / "a.fewshot")
    loaded = FewShotClassifier.load(tmp_path / "a.fewshot")
    np.testing.assert_array_equal(loaded.predict_proba(images), classifier.predict_proba(images))
    np.testing.assert_array_equal(loaded.predict(images), classifier.predict(images))
    assert loaded.get_params() == classifier.get_params()
    assert loaded.add_class("gelb", [picture("gelb", 1)], ["new"]).classes_.tolist() == ["blau", "gelb", "grün", "rot"]


def test_foreign_cut_short_and_newer_files_are_refused(tmp_path):
    path = tmp_path / "a.fewshot"
    small().fit(*coloured()).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        FewShotClassifier.load(path)
    save_checkpoint(path, {}, "fewshot-classifier-2")
    with pytest.raises(CheckpointError, match="newer version: upgrade"):
        FewShotClassifier.load(path)
    save_checkpoint(path, {})
    with pytest.raises(CheckpointError, match="is no fewshot-classifier-1"):
        FewShotClassifier.load(path)
    path.write_bytes(b"\x80\x04\x95" + b"pickle" * 20)
    with pytest.raises(CheckpointError, match="of another program"):
        FewShotClassifier.load(path)


def test_strange_images_of_no_known_class_are_rejected():
    images, labels = coloured(6, ("blau", "grün", "rot"))
    classifier = small(false_accept_rate=0.0, unknown="?").fit(images, labels)
    strange = [picture("gelb", i) for i in range(6)]
    answers = classifier.predict(strange)
    assert (answers == "?").mean() >= 0.5
    assert set(small().fit(images, labels).predict(strange)) <= set(labels)
    with pytest.raises(DataError, match="three classes"):
        small(false_accept_rate=0.1).fit(*coloured(2, ("blau", "rot")))
    with pytest.raises(DataError, match="three classes"):
        classifier.remove_class("rot")
    assert classifier.classes_.tolist() == ["blau", "grün", "rot"]  # nothing has changed
    assert (classifier.predict(strange) == answers).all()


def test_numbers_stay_numbers_beside_unknown():
    images, labels = coloured(6)
    numbers = [COLOURS[label][0] for label in labels]
    answers = small(false_accept_rate=0.5).fit(images, numbers).predict(images)
    assert {type(answer) for answer in answers} <= {int, str}
    assert int in {type(answer) for answer in answers}


def test_held_out_answers_do_not_know_their_group():
    """Features are noise, with twins inside groups: held-out predictions would be right if they used the twins."""
    draw = seeding.numpy_generator(0, "twins")
    X = np.repeat(draw.normal(size=(40, 8)), 2, 0)
    y = np.repeat(np.arange(40) % 2, 2)
    classifier = FewShotClassifier(None, method="nearest").fit(X, y, groups=np.repeat(np.arange(40), 2))
    probabilities, rows = classifier.predict_held_out()
    assert (probabilities.argmax(1) == y[rows]).mean() < 0.75
    assert classifier.score(X, y) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:-1]), "11 labels for 12 images"),
        (lambda X, y: (X, ["blau"] * 12), "two classes"),
        (lambda X, y: ([*X[:11], X[0]], y), "same picture in two classes: image 0 and image 11"),
        (lambda X, y: ([X[0] * np.nan, *X[1:]], y), "image 0: 1,200 pixels are NaN"),
        (lambda X, y: ([X[0][..., :2], *X[1:]], y), "image 0: an image has 1, 3 or 4 channels"),
        (lambda X, y: ([X[0] / 2.0, *X[1:]], y), "image 0: floating-point pixels lie between 0 and 1"),
        (lambda X, y: (["missing.jpg", *X[1:]], y), r"1 of 12 images cannot be used: missing.jpg: the file cannot be"),
        (lambda X, y: ("folder", y), "images is a list"),
        (lambda X, y: ([None, *X[1:]], y), "image 0: expected a path"),
    ],
)
def test_bad_input_is_a_sentence(change, message):
    with pytest.raises(DataError, match=message):
        small().fit(*change(*coloured()))


def test_bad_requests_are_a_sentence(tmp_path):
    images, labels = coloured()
    with pytest.raises(NotFittedError):
        small().predict(images)
    with pytest.raises(UnknownNameError, match="protonet"):
        small(method="protnet").fit(images, labels)
    asked = {
        "anil": {},
        "relation": {"backbone": "conv4-relation"},
        "matching": {"method_options": {"full_context": True}},
    }
    for method, others in asked.items():
        with pytest.raises(ConfigError, match=f"{method} must be trained on other classes first"):
            small(method=method, **others).fit(images, labels)
    with pytest.raises(ConfigError, match="mean of the base classes"):
        small(method="simpleshot").fit(images, labels)
    with pytest.raises(ConfigError, match="false_accept_rate"):
        small(false_accept_rate=1.5).fit(images, labels)
    fitted = small().fit(images, labels)
    with pytest.raises(DataError, match="there is a class 'rot'"):
        fitted.add_class("rot", images[:1])
    with pytest.raises(DataError, match="there is no class 'lila'"):
        fitted.remove_class("lila")
    with pytest.raises(DataError, match="without groups"):
        fitted.add_class("gelb", [picture("gelb", 0)], ["a"])
    with pytest.raises(DataError, match="the list is empty"):
        fitted.predict([])
    before = fitted.predict_proba(images)
    with pytest.raises(DataError, match="in two classes"):
        fitted.add_class("gelb", images[:1])
    np.testing.assert_array_equal(fitted.predict_proba(images), before)


def test_clone_and_parameters():
    asked = small(rotation_invariant=4, find_circle=True, views={"colour": 0.3})
    assert clone(asked).get_params() == asked.get_params()
    images, labels = coloured()
    assert asked.fit(images, labels).encoder_.method.backbone.turns == 4
    assert asked.inputs_.size_px == 20  # the circle fills 16 of them
    assert json.loads(json.dumps(asked.get_params())) == asked.get_params()
    assert storage.FORMAT.endswith("-1")


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "1", "I;16"])
def test_colour_modes(tmp_path, mode):
    grey = Image.fromarray(picture("rot", 3)).convert("L")
    image = grey.convert("I").point(lambda v: v * 257).convert("I;16") if mode == "I;16" else grey.convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    images, labels = coloured()
    assert small().fit(images, labels).predict_proba([path]).shape == (1, 3)
