"""Glyphs: properties of its classes, writers, splits and pixels."""

import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from fewshot.datasets import glyphs as module
from fewshot.datasets.glyph_scripts import SCRIPTS, _keep_first_of_each_shape, crop_character, read_font_codes
from fewshot.datasets.glyphs import FONTS, REGULAR, draw, glyphs, make_writer
from fewshot.datasets.loading import load_dataset
from fewshot.errors import DataError, UnknownNameError
from fewshot.images.imageset import ImageSet, check_disjoint

N_WRITERS = 20
UNUSED = Path("unused")


@pytest.fixture(scope="module")
def everything() -> ImageSet:
    return glyphs(UNUSED, "all")


@pytest.fixture(scope="module")
def splits(everything: ImageSet) -> dict[str, ImageSet]:
    return {split: glyphs(UNUSED, split) for split in ("train", "val", "test")}


def code_of(class_name: str) -> int:
    return int(class_name.split("U+")[1].split()[0], 16)


def scripts_of(imageset: ImageSet) -> set[str]:
    return {name.split("/")[0] for name in imageset.class_names}


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate every row of `a` (n, pixels) with every row of `b` (m, pixels)."""
    return np.corrcoef(a, b)[: len(a), len(a) :]


def by_class(imageset: ImageSet) -> np.ndarray:
    """Drawings by class and writer, (n_classes, writers, pixels)."""
    return imageset.images.numpy().reshape(imageset.n_classes, N_WRITERS, -1)


def test_every_class_has_one_image_of_every_writer(everything: ImageSet) -> None:
    assert everything.n_classes >= 400
    assert everything.image_shape == (1, 28, 28)
    drawn = sorted(zip(everything.labels.tolist(), everything.groups.tolist(), strict=True))
    assert drawn == [(label, w) for label in range(everything.n_classes) for w in range(N_WRITERS)]


def test_splits_are_disjoint_by_script_and_make_up_the_whole(everything: ImageSet, splits: dict[str, ImageSet]) -> None:
    check_disjoint(**{split: part.class_names for split, part in splits.items()})
    check_disjoint(**{split: sorted(scripts_of(part)) for split, part in splits.items()})
    assert sum((part.class_names for part in splits.values()), ()) == everything.class_names
    for split in ("val", "test"):
        assert splits[split].n_classes >= 80
        assert len(scripts_of(splits[split])) >= 4
    first = splits["val"].class_names[0]
    start = everything.class_names.index(first) * N_WRITERS
    assert (splits["val"].images[:N_WRITERS] == everything.images[start : start + N_WRITERS]).all()


def test_class_names_tell_script_code_point_and_unicode_name(everything: ImageSet) -> None:
    assert "Latin/U+0041 LATIN CAPITAL LETTER A" in everything.class_names
    for name in everything.class_names:
        script, rest = name.split("/", 1)
        point, unicode_name = rest.split(" ", 1)
        assert unicodedata.lookup(unicode_name) == chr(int(point[2:], 16))
        assert any(s.name == script and first <= code_of(name) <= last for s in SCRIPTS for first, last in s.ranges)


def test_only_letters_and_digits_of_their_own(everything: ImageSet) -> None:
    characters = [chr(code_of(name)) for name in everything.class_names]
    assert {unicodedata.category(c) for c in characters} <= {"Lu", "Ll", "Lo", "Nd"}
    assert [c for c in characters if unicodedata.normalize("NFKD", c) != c] == []
    assert {ord(c) for c in characters} <= read_font_codes(module._find_font_folder() / REGULAR)


def test_pixels_are_ink_on_an_empty_ground_away_from_the_border(everything: ImageSet) -> None:
    images = everything.images.numpy()[:, 0]  # (n_images, 28, 28)
    assert images.max(axis=(1, 2)).min() > 200
    assert (images > 127).sum(axis=(1, 2)).min() >= 5
    assert (images < 64).mean(axis=(1, 2)).min() > 0.3
    assert ((images > 0) & (images < 255)).mean() > 0.05  # anti-aliased
    inside = images.copy()
    inside[:, 1:-1, 1:-1] = 0
    assert (inside > 64).any(axis=(1, 2)).mean() < 0.005


def test_no_two_drawings_of_a_class_are_equal(everything: ImageSet) -> None:
    assert len(np.unique(everything.digests, axis=0)) == len(everything)


def test_no_look_alikes_across_splits(splits: dict[str, ImageSet]) -> None:
    """Mean drawings of similar characters correlate by more than 0.955, those of classes never do."""
    fonts = module._find_font_folder()

    def mean_drawing(code: int) -> np.ndarray:
        return np.mean([draw(code, w, make_writer(w), fonts, 28) for w in range(N_WRITERS)], axis=0).ravel()

    for latin, twin in ("AΑ", "OΟ", "TΤ", "BΒ", "sѕ"):
        assert latin != twin
        assert np.corrcoef(mean_drawing(ord(latin)), mean_drawing(ord(twin)))[0, 1] > 0.955
    means = {split: by_class(part).mean(axis=1) for split, part in splits.items()}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert correlation(means[a], means[b]).max() < 0.955


def test_known_twins_are_one_class(everything: ImageSet) -> None:
    kept = {chr(code_of(name)) for name in everything.class_names}
    for twins in ("AΑА", "TΤТ", "cCсС", "sSѕ5", "HΗН", "BΒВ", "MΜМ"):
        assert len(kept & set(twins)) == 1, twins
    assert len(kept & set("oοоOΟОՕ0QD")) <= 3  # a round O may itself be too near a D


def test_classes_are_recognisable_and_writers_differ(everything: ImageSet) -> None:
    images = by_class(everything).astype(np.float64)
    rng = np.random.default_rng(0)
    same, other = [], []
    for label in range(everything.n_classes):
        a, b = rng.choice(N_WRITERS, 2, replace=False)
        stranger = rng.integers(everything.n_classes - 1)
        stranger += stranger >= label
        same.append(np.corrcoef(images[label, a], images[label, b])[0, 1])
        other.append(np.corrcoef(images[label, a], images[stranger, b])[0, 1])
    assert np.mean(same) > np.mean(other) + 0.1
    assert np.mean(same) < 0.8


def test_drawing_again_elsewhere_gives_the_same(everything: ImageSet, tmp_path: Path) -> None:
    """Drawings do not depend on the process, the cache, the hash seed or the number of writers."""
    code = "from pathlib import Path; from fewshot.datasets.glyphs import glyphs; "
    code += "print(glyphs(Path('unused'), 'all', n_writers=2).fingerprint)"
    environment = os.environ | {"FEWSHOT_CACHE": str(tmp_path), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first_two = everything.groups < 2
    images, labels = everything.images[first_two], everything.labels[first_two]
    expected = ImageSet(images, labels, everything.class_names, everything.groups[first_two])
    assert done.stdout.strip() == expected.fingerprint


def test_reopening_draws_nothing_and_is_fast(everything: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "draw", refuse)
    monkeypatch.setattr(module, "find_distinct", refuse)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        again = load_dataset("glyphs", "all")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2
    assert again.fingerprint == everything.fingerprint


def test_importing_leaves_matplotlib_and_font_tools_alone() -> None:
    code = "import sys, fewshot.datasets.glyphs; print(sorted({'matplotlib', 'fontTools'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_larger_drawings_show_the_same(everything: ImageSet) -> None:
    small = draw(ord("R"), 3, make_writer(3), module._find_font_folder(), 28)
    large = draw(ord("R"), 3, make_writer(3), module._find_font_folder(), 84)
    assert large.shape == (84, 84)
    averaged = large.reshape(28, 3, 28, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), averaged.ravel())[0, 1] > 0.95


def test_a_blank_character_is_no_class() -> None:
    assert crop_character(ord(" "), module._find_font_folder() / REGULAR) is None


def test_the_first_of_each_shape_stays() -> None:
    a, b = np.eye(2)
    near_a = np.array([0.99, np.sqrt(1 - 0.99**2)])
    views = np.array([[a, a], [b, b], [near_a, near_a], [b, a], [a, a]])
    aspects = np.log([1.0, 1.0, 1.5, 1.0, 3.0])  # the last is as the first, but three times as wide
    assert _keep_first_of_each_shape([10, 11, 12, 13, 14], views, aspects) == [10, 11, 14]


def test_bad_arguments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match=r"split of glyphs 'tset'.*'test'"):
        glyphs(UNUSED, "tset")
    with pytest.raises(DataError, match="n_writers must be at least 1, got 0"):
        glyphs(UNUSED, "train", n_writers=0)
    with pytest.raises(DataError, match="image_px must be 14 to 112, got 500"):
        glyphs(UNUSED, "train", image_px=500)
    monkeypatch.setattr(module, "_find_font_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=rf"the font {tmp_path}.*{min(f for f, _ in FONTS)} is missing"):
        glyphs(UNUSED, "train")
