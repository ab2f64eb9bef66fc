"""Two classifiers on the same photographs: counts and p-values by hand, and the exit status."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier, commands
from fewshot.config import ExportConfig
from fewshot.errors import DataError
from fewshot.photographs.serving.exporting import export
from fewshot.reproduction.comparison.classifiers import compare_answers, compare_classifiers, format_classifiers
from fewshot.runtime import seeding


def answers(*counts: tuple[str, int, int, int, int]) -> tuple[np.ndarray, ...]:
    """Of classes (name, both right, only old, only new, both wrong): old right, new right, truth, groups."""
    rows = [
        (name, *pair)
        for name, *ns in counts
        for n, pair in zip(ns, ((1, 1), (1, 0), (0, 1), (0, 0)), strict=True)
        for _ in range(n)
    ]
    truth, old, new = (np.array(column) for column in zip(*rows, strict=True))
    return old.astype(bool), new.astype(bool), truth, np.arange(len(rows))


def test_shares_and_p_values_are_those_of_the_hand_calculation():
    parts = compare_answers(*answers(("a", 5, 8, 0, 1), ("b", 10, 1, 1, 0)))
    everything, a, b = parts
    assert [part.name for part in parts] == ["all photographs", "a", "b"]
    assert (a.old.mean, a.new.mean) == (13 / 14, 5 / 14)
    assert (everything.sign.a_better, everything.sign.b_better) == (9, 1)
    # one-sided: (1 + 10) / 2^10 of all, 1 / 2^8 of a, 3 / 4 of b; Holm: 3 times the smallest, 2 times the next
    assert a.worse_p == pytest.approx(3 / 256)
    assert everything.worse_p == pytest.approx(2 * 11 / 1024)
    assert b.worse_p == pytest.approx(3 / 4)
    assert [part.is_worse for part in parts] == [True, True, False]


def test_better_is_not_worse():
    assert not any(part.is_worse for part in compare_answers(*answers(("a", 5, 0, 30, 0), ("b", 5, 0, 9, 0))))


def test_a_group_is_one_observation():
    old, new, truth, _ = answers(("a", 0, 12, 0, 0))
    assert compare_answers(old, new, truth, np.arange(12))[0].is_worse
    part = compare_answers(old, new, truth, np.repeat([0, 1], 6))[0]
    assert (part.sign.a_better, part.worse_p) == (2, 0.5)
    assert not part.is_worse


@pytest.fixture
def folder(tmp_path):
    """photos/ of three colours, a classifier of them, and one that learned them under wrong names."""
    colours = {"red": (200, 40, 40), "green": (40, 180, 40), "blue": (40, 40, 200)}

    def draw(name: str, number: int) -> Image.Image:
        noise = seeding.numpy_generator(number, "photograph", name).normal(0, 20, (16, 16, 3))
        return Image.fromarray((np.array(colours[name]) + noise).clip(0, 255).astype(np.uint8))

    for name in colours:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            draw(name, number).save(tmp_path / "photos" / name / f"{number}.png")
    support = [draw(name, number) for name in colours for number in range(20, 24)]
    labels = [name for name in colours for _ in range(4)]
    network = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}
    FewShotClassifier(**network).fit(support, labels).save(tmp_path / "good.fewshot")
    turned = [*labels[4:], *labels[:4]]
    FewShotClassifier(**network).fit(support, turned).save(tmp_path / "bad.fewshot")
    return tmp_path


def test_exit_status_tells_whether_the_new_one_is_worse(folder, capsys):
    good, bad, photos = (str(folder / name) for name in ("good.fewshot", "bad.fewshot", "photos"))
    for words, status in (((good, bad, photos), 1), ((bad, good, photos), 0), ((good, good, photos), 0)):
        with pytest.raises(SystemExit) as ended:
            commands.main(["compare", *words])
        assert ended.value.code == status, words
    assert "not significantly worse" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        commands.main(["compare", good, str(folder / "gone.fewshot"), photos])
    assert ended.value.code == 2


def test_classes_that_a_classifier_does_not_know_are_named(folder):
    (folder / "photos" / "mauve").mkdir()
    Image.new("RGB", (9, 9), "purple").save(folder / "photos" / "mauve" / "1.png")
    good = str(folder / "good.fewshot")
    with pytest.raises(DataError, match=r"good\.fewshot does not know mauve"):
        compare_classifiers(good, good, str(folder / "photos"))


def test_unreadable_photographs_are_left_out_and_counted(folder):
    (folder / "photos" / "red" / "broken.jpg").write_bytes(b"no picture")
    good = str(folder / "good.fewshot")
    compared = compare_classifiers(good, good, str(folder / "photos"))
    assert (compared.n_bad, compared.parts[0].old.n_images) == (1, 24)
    assert "left out: 1 photograph that cannot be read" in format_classifiers(compared)


def test_photographs_that_a_classifier_was_fitted_to_are_left_out(folder):
    photos = folder / "photos"
    paths = sorted(photos.glob("*/*.png"))
    seen = [path for path in paths if path.stem in ("0", "1", "2")]
    again = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 8})
    again.fit(seen, [path.parent.name for path in seen]).save(folder / "again.fewshot")
    good, new = str(folder / "good.fewshot"), str(folder / "again.fewshot")
    for pair in ((good, new), (new, good)):
        compared = compare_classifiers(*pair, str(photos))
        assert {Path(name).stem for name in compared.learned} == {"0", "1", "2"}
        assert compared.parts[0].old.n_images == 24 - 9
        assert "left out: 9 photographs that a classifier was fitted to: " in format_classifiers(compared)
    again.fit(paths, [path.parent.name for path in paths]).save(folder / "all.fewshot")
    with pytest.raises(DataError, match="all photographs are ones that a classifier was fitted to"):
        compare_classifiers(good, str(folder / "all.fewshot"), str(photos))


def test_an_exported_classifier_knows_what_it_was_fitted_to(folder):
    pytest.importorskip("onnxscript", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
    pytest.importorskip("onnxruntime", reason="what runs ONNX is not installed: pip install 'fewshot[export]'")
    paths = sorted((folder / "photos").glob("*/[0-3].png"))
    again = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 8})
    again.fit(paths, [path.parent.name for path in paths]).save(folder / "again.fewshot")
    export(ExportConfig(model=str(folder / "again.fewshot"), out=str(folder / "again")))
    compared = compare_classifiers(str(folder / "good.fewshot"), str(folder / "again"), str(folder / "photos"))
    assert len(compared.learned) == 12
