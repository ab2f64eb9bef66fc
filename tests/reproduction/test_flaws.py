"""False alarms and recall of `check`'s findings, on pictures whose flaws are made here."""

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import ImageSet, create_method
from fewshot.reproduction.photographs import flaws
from fewshot.reproduction.photographs.sets import EmbeddedSet

SIDE_PX = 64


def make_set(n_dark: int = 0, name: str = "blocks") -> EmbeddedSet:
    """Make 8 classes of 5 pictures of coloured blocks, from black to white; the first `n_dark` are nearly black."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8).repeat(SIDE_PX // 8, 2).repeat(SIDE_PX // 8, 3)
    blocks[:n_dark] //= 16
    images = ImageSet(blocks, np.repeat(np.arange(8), 5), [str(c) for c in range(8)])
    return EmbeddedSet(name, images, np.arange(40), create_method("nearest", None))


def test_ordinary_pictures_are_not_named_and_flawed_ones_are():
    record = flaws.measure_flaws(make_set(), 3)
    assert record["n_images"] == 40
    assert record["ordinary"] == {kind: [0, 0, 0] for kind in flaws.KINDS}
    strong = ("an eighth as bright", "eight times as bright", "blurred by 2%", "mirrored copy")
    assert {flaw: record["found"][flaw] for flaw in strong} == {flaw: [1, 1, 1] for flaw in strong}
    assert record["found"]["a quarter as bright"] == [0, 0, 0]  # white became 64 of 255


def test_dark_pictures_are_counted():
    record = flaws.measure_flaws(make_set(n_dark=6), 2)
    assert record["ordinary"]["too dark"] == [6, 6]
    table = flaws.format_flaws([{"dataset": "blocks", **record}])
    assert "| ordinary | too dark | 15.0 ± 0.0 |" in table


def test_classes_that_thresholds_were_chosen_on_are_left_out(monkeypatch):
    monkeypatch.setitem(flaws.CHOSEN_ON, "signs", 2)
    record = flaws.measure_flaws(make_set(n_dark=10, name="signs"), 2)
    assert record["n_images"] == 30
    assert record["ordinary"]["too dark"] == [0, 0]


@pytest.mark.parametrize("flaw", flaws.FLAWS)
def test_flaws_change_a_picture(flaw):
    image = Image.fromarray(make_set().pixels[0].permute(1, 2, 0).numpy())
    assert (np.asarray(flaws.FLAWS[flaw][1](image)) != np.asarray(image)).mean() > 0.2


def test_a_selected_part_of_a_set_has_features_of_its_images():
    data, some = make_set(), np.array([20, 3, 7])
    vars(data)["features"] = torch.arange(80.0).reshape(40, 2)  # as if they were computed
    part = data.select(some)
    assert part.labels.tolist() == [4, 0, 1]
    assert len(np.unique(part.groups)) == 3
    assert (part.pixels == data.pixels[some]).all()
    assert part.features.tolist() == [[40, 41], [6, 7], [14, 15]]
