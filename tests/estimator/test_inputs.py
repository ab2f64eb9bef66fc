"""Inputs of `FewShotClassifier`: a picture gives the same pixels in every form, and errors name what is wrong."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import FewShotClassifier, ImageSet
from fewshot.errors import ConfigError, DataError
from fewshot.runtime import seeding

LABELS = list("aaaabbbbcccc")


def picture(number: int, side: int = 20) -> np.ndarray:
    """Noise around a colour of its class, four to a class, (side, side, 3) uint8."""
    colour = np.roll([200, 60, 40], number // 4)
    noise = seeding.numpy_generator(0, "input", number).normal(0, 25, (side, side, 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


IMAGES = [picture(number) for number in range(12)]


def classifier(**options) -> FewShotClassifier:
    given = {"pretrained": False, "size_px": 16, "calibrate": False, "backbone_options": {"n_filters": 8}}
    return FewShotClassifier("conv4", **given | options)


@pytest.fixture(scope="module")
def fitted() -> FewShotClassifier:
    return classifier().fit(IMAGES, LABELS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_an_opened_file_is_turned_as_its_path_is(fitted, tmp_path, file_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"t.{file_format}"
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[:, None], 80, 1)
    Image.fromarray(ramp).convert("RGB").save(path, file_format, exif=exif)
    by_path, by_pillow = (fitted.inputs_.read([image], 0)[0].float() for image in (path, Image.open(path)))
    assert (by_path - by_pillow).abs().mean() < 3
    assert by_path.std() > 20  # something to be turned


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_an_opened_file_that_breaks_off_is_named(file_format):
    file = io.BytesIO()
    Image.fromarray(picture(0, 400)).save(file, file_format)
    cut = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2])) if file_format != "TIFF" else None
    if cut is None:  # Pillow opens a TIFF by the directory at its end, so the file is cut after it was opened
        data = bytearray(file.getvalue())
        cut = Image.open(io.BytesIO(bytes(data)))
        cut.fp = io.BytesIO(bytes(data[:1000]))
    with pytest.raises(DataError, match="1 of 12 images cannot be used: image 3: the image is damaged or cut short"):
        classifier().fit([*IMAGES[:3], cut, *IMAGES[4:]], LABELS)


def test_a_closed_or_empty_pillow_image_is_named(fitted, tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with pytest.raises(DataError, match="image 1: the image is damaged"):
        fitted.predict([IMAGES[0], closed])
    with pytest.raises(DataError, match="image 0: the image has no pixel: it is 0 x 5 px"):
        fitted.predict([Image.new("RGB", (0, 5))])


@pytest.mark.parametrize(
    "one",
    [
        torch.from_numpy(IMAGES[0].transpose(2, 0, 1).copy()),
        torch.from_numpy(IMAGES[0]),
        IMAGES[0],
        IMAGES[0].transpose(2, 0, 1),
        IMAGES[0][None, :, :, 0],
        np.array("a.png"),
        "a.png",
        Image.fromarray(IMAGES[0]),
    ],
    ids=["tensor chw", "tensor hwc", "array hwc", "array chw", "grey", "array of a path", "path", "pillow"],
)
def test_one_image_is_no_list(fitted, one):
    with pytest.raises(DataError, match=r"write \[image\]"):
        fitted.predict(one)


def test_grey_images_of_any_number_have_a_form():
    grey = np.stack([image[..., 0] for image in IMAGES])
    asked = classifier().fit(grey, LABELS)
    expected = asked.predict(list(grey[:3]))
    assert (asked.predict(grey[:3, :, :, None]) == expected).all()
    assert (asked.predict(torch.from_numpy(grey[:3, None])) == expected).all()


@pytest.mark.parametrize("kind", ["str", "object", "paths"])
def test_an_array_of_paths_is_a_list_of_paths(tmp_path, kind):
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    names = paths if kind == "paths" else list(map(str, paths))
    given = np.array(names, dtype=None if kind == "str" else object)
    expected = classifier().fit(paths, LABELS).predict_proba(paths[:2])
    np.testing.assert_array_equal(classifier().fit(given, LABELS).predict_proba(given[:2]), expected)
    with pytest.raises(DataError, match=r"is flat, got shape \(12, 1\)"):
        classifier().fit(given[:, None], LABELS)


@pytest.mark.parametrize("given", [dict.fromkeys("ab"), {"a", "b"}])
def test_what_has_no_order_is_refused(fitted, given):
    with pytest.raises(DataError, match="images is a list, in the order of the labels, not a"):
        fitted.predict(given)


def test_channels_at_the_end_are_no_image_set():
    with pytest.raises(DataError, match=r"\(4, 8, 8, 3\) looks like .* give images.transpose\(0, 3, 1, 2\)"):
        ImageSet(np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1, 1], ["a", "b"])
    assert ImageSet(np.zeros((4, 3, 8, 3), np.uint8), [0, 0, 1, 1], ["a", "b"]).image_shape == (3, 8, 3)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([None, *LABELS[1:]], "1 of 12 labels is missing: of image 0"),
        ([*LABELS[:7], float("nan"), *LABELS[8:]], "1 of 12 labels is missing: of image 7"),
        (np.array([*LABELS[:3], None, *LABELS[4:]], object), "of image 3"),
        ([io.StringIO(), *LABELS[1:]], "the one of image 0 is of type StringIO"),
        ([["a"], *LABELS[1:]], "the one of image 0 is of type list"),
        ([1, *LABELS[1:]], "all words or all numbers; these are both: 'a' and 1"),
        (["1"] * 4 + [1] * 4 + ["2"] * 4, "these are both: '1' and 1"),
        ([0.5, 1.5] * 6, "Unknown label type"),
    ],
)
def test_labels_that_are_none(labels, says):
    with pytest.raises(ValueError, match=says):
        classifier().fit(IMAGES, labels)


def test_paths_are_no_labels(tmp_path):
    with pytest.raises(DataError, match="the one of image 0 is of type PosixPath"):
        classifier().fit(IMAGES, [tmp_path / label for label in LABELS])


@pytest.mark.parametrize(("labels", "name"), [(LABELS[:8], 7), (["1"] * 4 + ["2"] * 4, 1), ([1] * 4 + [2] * 4, "3")])
def test_one_more_class_is_of_the_same_kind(labels, name):
    asked = classifier().fit(IMAGES[:8], labels)
    with pytest.raises(DataError, match="all words or all numbers; these are both"):
        asked.add_class(name, IMAGES[8:])
    assert asked.classes_.tolist() == sorted(set(labels))


@pytest.mark.parametrize("name", [np.str_("longer than the others"), "d"])
def test_one_more_class_may_be_numpys(name):
    asked = classifier().fit(IMAGES[:8], np.array(LABELS[:8])).add_class(name, IMAGES[8:])
    assert asked.classes_.tolist() == ["a", "b", str(name)]
    numbers = classifier().fit(IMAGES[:8], np.repeat([3, 5], 4)).add_class(np.int64(4), IMAGES[8:])
    assert numbers.classes_.tolist() == [3, 4, 5]


def test_no_class_is_called_like_the_answer_for_none(fitted):
    labels = ["none of these"] * 4 + LABELS[4:]
    assert classifier().fit(IMAGES, labels).classes_[-1] == "none of these"  # nothing is rejected
    with pytest.raises(DataError, match="a class is called 'none of these', which is the answer for an image of no"):
        classifier(false_accept_rate=0.3).fit(IMAGES, labels)
    asked = classifier(false_accept_rate=0.3, unknown="strange").fit(IMAGES, labels)
    assert set(asked.predict(IMAGES)) <= {*labels, "strange"}
    with pytest.raises(DataError, match="a class is called 'strange'"):
        asked.add_class("strange", [picture(50)])


def test_bad_images_are_named_by_their_place_in_the_whole_list(fitted, monkeypatch):
    """`first` is the number of a batch's first image, so that errors of later batches name the right images."""
    pixels, bad = fitted.inputs_.read([IMAGES[0], None, IMAGES[1]], first=64)
    assert list(bad) == [65]
    assert not pixels[1].any()


def test_bytes_and_open_files_are_what_their_path_is(fitted, tmp_path):
    path = tmp_path / "t.png"
    Image.fromarray(IMAGES[3]).save(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        found = fitted.inputs_.read([path, data, bytearray(data), file, io.BytesIO(data)])[0]
    assert (found == found[0]).all()
    assert found[0].float().std() > 5


def test_bad_bytes_and_files_are_named(fitted, tmp_path):
    path = tmp_path / "t.png"
    Image.fromarray(IMAGES[3]).save(path)
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="latin-1") as text:
        bad = fitted.inputs_.read([b"no picture", b"", closed, text])[1]
    assert "begins with 'no picture'" in bad[0]
    assert "the file is empty" in bad[1]
    assert "image 2: the file object cannot be read" in bad[2]
    assert 'open it with "rb"' in bad[3]
    with pytest.raises(DataError, match=r"^image 0: this is no image"):
        fitted.predict([b"no picture"])
    for alone in (path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(DataError, match="for a single one write"):
            fitted.predict(alone)


def test_a_folder_is_its_files_and_their_classes(tmp_path):
    for number, label in enumerate(LABELS):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(IMAGES[number]).save(tmp_path / label / f"{number // 2}-{number}.png")
    made, known = classifier().fit_folder(tmp_path, groups="(.*)-"), classifier().fit(IMAGES, LABELS)
    assert made.classes_.tolist() == list("abc")
    assert sorted(made.support_.groups) == sorted(f"{number // 2}" for number in range(12))
    assert made.predict_proba(IMAGES) == pytest.approx(known.predict_proba(IMAGES), abs=1e-4)
    assert classifier().fit_folder(str(tmp_path)).support_.groups is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in empty"):
        classifier().fit_folder(tmp_path)


def test_colours_without_a_circle_tell_turned_things_of_one_shape_apart():
    shapes = [np.rot90(np.tile(np.arange(0, 250, 10, dtype=np.uint8), (25, 1)), k) for k in range(4)]
    red, blue = ([np.stack([s if c == k else s // 4 for c in range(3)], -1) for s in shapes] for k in (0, 2))
    made = classifier(views={"colour": 5.0}).fit([*red[:2], *blue[:2]], ["red"] * 2 + ["blue"] * 2)
    assert made.predict([*red[2:], *blue[2:]]).tolist() == ["red", "red", "blue", "blue"]
    with pytest.raises(ConfigError, match="radius is of a circle that is found"):
        classifier(views={"radius": 1.0}).fit(IMAGES, LABELS)
