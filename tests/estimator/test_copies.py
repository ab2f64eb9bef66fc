"""Copies of a picture count as one picture in estimates of accuracy, temperature and rejection."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.config import CheckPhotographsConfig, FitPhotographsConfig
from fewshot.images.joining import join_groups
from fewshot.images.similarity import extract_details, find_near_pairs, hash_perceptually
from fewshot.methods.finetune import FineTune
from fewshot.photographs import checking, commands
from fewshot.runtime import seeding

NETWORK = {"backbone": "conv4", "pretrained": False, "size_px": 64, "backbone_options": {"n_filters": 8}}


def noise(number: int, side: int = 96) -> np.ndarray:
    """A picture of random smooth blotches, (side, side, 3) uint8, different for each number."""
    small = seeding.numpy_generator(0, "noise", number).integers(0, 255, (24, 24, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def saved_again(picture: np.ndarray, quality: int = 60, scale: float = 1.0) -> np.ndarray:
    image = Image.fromarray(picture)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())))


COPIES = {
    "equal": lambda picture: picture.copy(),
    "jpeg": saved_again,
    "smaller": lambda picture: saved_again(picture, 75, 0.6),
    "larger": lambda picture: saved_again(picture, 75, 1.5),
}


def twice(n: int, copy: str = "equal", n_classes: int = 2) -> tuple[list[np.ndarray], list[int]]:
    """`n` pictures with arbitrary classes, each followed by a copy."""
    pictures = [noise(number) for number in range(n)]
    labels = [number % n_classes for number in range(n)]
    return [p for picture in pictures for p in (picture, COPIES[copy](picture))], [y for y in labels for _ in (0, 1)]


@pytest.mark.parametrize("copy", COPIES)
def test_noise_of_which_each_picture_is_there_twice_teaches_nothing(copy, caplog):
    images, labels = twice(60, copy)
    classifier = FewShotClassifier(**NETWORK, method="nearest").fit(images, labels)
    probabilities, rows = classifier.predict_held_out()
    right = (probabilities.argmax(1) == np.array(labels)[rows]).mean()
    assert len(rows) == 120
    assert right < 0.7  # chance is 0.5; it would be 1.0 if a picture's copy were in its support set
    assert len(classifier.copies_) == 60
    assert classifier.copies_[0] == ["image 0", "image 1"]
    assert "nearly the same pictures share a group" in caplog.text
    assert "image 0 = image 1, image 2 = image 3" in caplog.text


def test_pictures_without_a_copy_are_independent(caplog):
    images, labels = [noise(number) for number in range(40)], [0, 1] * 20
    classifier = FewShotClassifier(**NETWORK, method="nearest").fit(images, labels)
    assert classifier.copies_ == []
    assert classifier.support_.independent is None
    assert caplog.text == ""


def test_equal_features_are_copies():
    """The estimator without a backbone, by its default method."""
    X = np.repeat(seeding.numpy_generator(0, "features").normal(size=(60, 40)), 2, 0)
    y = np.repeat(np.arange(60) % 2, 2)
    classifier = FewShotClassifier(None).fit(X, y)
    probabilities, rows = classifier.predict_held_out()
    assert (probabilities.argmax(1) == y[rows]).mean() < 0.7
    assert len(classifier.copies_) == 60


def test_groups_that_a_copy_lies_in_are_joined():
    #                       0    1    2    3    4    5
    groups = np.array(["a", "a", "b", "b", "c", "d"])
    copies = np.array([0, 1, 1, 2, 3, 4])  # images 1 and 2 are copies
    joined = join_groups(groups, copies)
    assert joined.tolist() == [0, 0, 0, 0, 1, 2]
    assert join_groups(groups, np.arange(6)) is groups
    assert join_groups(None, np.arange(6)) is None
    assert join_groups(None, copies).tolist() == copies.tolist()
    images = [noise(0), noise(1), saved_again(noise(1)), noise(3), noise(4), noise(5)]
    classifier = FewShotClassifier(**NETWORK, method="nearest").fit(images, [0, 0, 0, 0, 1, 1], groups)
    assert classifier.support_.independent.tolist() == [0, 0, 0, 0, 1, 2]
    assert classifier.predict_held_out()[1].tolist() == [4, 5]  # the images of class 0 are all of one group


def test_probabilities_are_calibrated_by_each_picture_once():
    """Doubling every picture changes no prototype, so it may not change the temperature either."""
    draw = seeding.numpy_generator(0, "blobs")
    X, y = draw.normal(size=(12, 5)) + np.repeat(np.eye(3, 5), 4, 0), np.repeat([0, 1, 2], 4)
    once = FewShotClassifier(None, method="protonet").fit(X, y)
    copied = FewShotClassifier(None, method="protonet").fit(np.repeat(X, 2, 0), np.repeat(y, 2))
    assert copied.temperature_ == pytest.approx(once.temperature_, rel=1e-6)


def test_rejection_counts_a_picture_once():
    draw = seeding.numpy_generator(0, "blobs")
    X, y = draw.normal(size=(12, 5)) + np.repeat(np.eye(3, 5) * 3, 4, 0), np.repeat([0, 1, 2], 4)
    options = {"method": "protonet", "false_accept_rate": 0.2}
    once = FewShotClassifier(None, **options).fit(X, y)
    copied = FewShotClassifier(None, **options).fit(np.repeat(X, 2, 0), np.repeat(y, 2))
    assert once.rejection_.scores.unknown_weights.sum() == copied.rejection_.scores.unknown_weights.sum() == 12
    assert copied.rejection_.scores.known_weights.sum() == 12
    copied.add_class(3, np.repeat(X[:2] + 9, 2, 0)).remove_class(0)
    assert copied.rejection_.scores.unknown_weights.sum() == 8 + 2


def test_a_new_class_brings_copies_of_pictures_that_are_there(tmp_path):
    images, labels = [noise(number) for number in range(8)], [0, 1] * 4
    classifier = FewShotClassifier(**NETWORK, method="nearest").fit(images, labels)
    classifier.add_class(2, [noise(20), saved_again(noise(20)), saved_again(noise(3))])
    assert classifier.support_.groups is None  # none were given, and none need be
    assert sorted(map(len, classifier.copies_)) == [2, 2]
    classifier.save(tmp_path / "a.fewshot")
    loaded = FewShotClassifier.load(tmp_path / "a.fewshot")
    assert loaded.copies_ == classifier.copies_
    for mine, theirs in zip(loaded.predict_held_out(), classifier.predict_held_out(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert classifier.remove_class(2).copies_ == []
    assert classifier.support_.independent is None


def test_early_stopping_of_fine_tuning_holds_out_copies_together(monkeypatch):
    given, fit_support = [], FineTune.fit_support
    monkeypatch.setattr(
        FineTune, "fit_support", lambda *arguments: given.append(arguments[-1]) or fit_support(*arguments)
    )
    images, labels = twice(4)
    options = {"method": "finetune", "method_options": {"steps": 1}, "calibrate": False}
    FewShotClassifier(**NETWORK, **options).fit(images, labels)
    assert given[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.fixture
def folder(tmp_path):
    """20 pictures of each of two arbitrary classes, each saved twice."""
    images, labels = twice(40, "jpeg")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "pictures" / f"class{label}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "pictures"


def test_commands_expect_nothing_of_copied_noise(folder, tmp_path, capsys):
    asked = NETWORK | {"support": str(folder), "method": "nearest"}
    commands.fit_folder(FitPhotographsConfig(**asked, out=str(tmp_path / "a.fewshot")))
    text = capsys.readouterr().out
    checking.check_support(CheckPhotographsConfig(**asked))
    for said, start in ((text, "Cross-validated accuracy"), (capsys.readouterr().out, "Leave-one-out accuracy")):
        (line,) = (line for line in said.splitlines() if line.startswith(start))
        percent, n_images, n_groups = re.search(
            r"([\d.]+)% \(95.*, (\d+) photographs, (\d+) of them different", line
        ).groups()
        assert float(percent) < 75
        assert (n_images, n_groups) == ("80", "40")


def test_details_are_numbers_whatever_the_picture():
    """On this even background, rounding makes a variance slightly negative; its root would be NaN and hide copies."""
    draw = np.random.default_rng(881)
    picture = np.full((32, 32), draw.integers(0, 256), np.float32)
    margin = draw.integers(4, 12)
    inside = slice(margin, -margin)
    picture[inside, inside] = draw.uniform(0, 255, (32 - 2 * margin, 32 - 2 * margin))
    pictures = np.stack([picture, picture, np.zeros_like(picture)])
    vectors = extract_details(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], atol=1e-5)
    assert [(i, j) for i, j, _ in find_near_pairs(hash_perceptually(pictures), vectors)] == [(0, 1)]


def test_pictures_one_by_one_look_as_all_at_once():
    pictures = seeding.numpy_generator(0, "greys").normal(128, 50, (5, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(np.stack([extract_details(p) for p in pictures]), extract_details(pictures), atol=1e-6)
    np.testing.assert_array_equal(np.stack([hash_perceptually(p) for p in pictures]), hash_perceptually(pictures))
