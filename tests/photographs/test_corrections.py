"""Photographs that are suggested, corrected on the page, and fitted again."""

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.commands import execute
from fewshot.config import FitPhotographsConfig, PredictPhotographsConfig, SuggestPhotographsConfig
from fewshot.errors import ConfigError, DataError
from fewshot.images.listing import ImageFile
from fewshot.photographs.commands import fit_folder, predict_folder
from fewshot.photographs.corrections import apply_corrections, read_corrections
from fewshot.photographs.suggesting import suggest_photographs
from fewshot.photographs.suggestions import choose_next
from fewshot.runtime import seeding

COLOURS = {"a klein": (200, 60, 40), "b größer": (40, 160, 60), "c": (50, 70, 210)}
NETWORK = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}


def photograph(path: Path, colour: tuple[int, int, int], number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = seeding.numpy_generator(number, "photograph", colour).normal(0, 25, (24, 30, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, colour in COLOURS.items():
        for number in range(4):
            photograph(tmp_path / "support" / name / f"{number}.png", colour, number)
        photograph(tmp_path / "ask" / f"new {name}.png", colour, 99)
    return tmp_path


def test_the_first_choice_covers_most_and_all_choices_nearly():
    draw = np.random.default_rng(0)
    points = draw.normal(size=(9, 3))
    alike = torch.from_numpy(-np.linalg.norm(points[:, None] - points, axis=2))
    known = torch.from_numpy(-np.linalg.norm(points[:, None] - draw.normal(size=(1, 3)), axis=2))
    start = known.numpy().max(1)

    def gain(rows):
        return np.maximum(alike.numpy()[:, list(rows)].max(1), start).sum() - start.sum()

    chosen = choose_next(alike, known, 3)
    assert gain(chosen[:1]) == max(gain([i]) for i in range(9))
    assert gain(chosen) >= (1 - 1 / np.e) * max(gain(rows) for rows in combinations(range(9), 3))
    assert len(set(chosen)) == 3


def test_of_a_group_one_is_chosen_and_what_is_known_comes_last():
    alike = torch.eye(6)
    assert choose_next(alike, torch.zeros(6, 1), 9, [0, 0, 0, 1, 1, 2]) == [0, 3, 5]
    known = torch.tensor([[1.0], [0], [0], [0], [0], [0]])
    assert choose_next(alike, known, 6)[-1] == 0
    assert choose_next(alike, torch.zeros(6, 0), 2) == [0, 1]


def write(path, *rows):
    path.write_text("\n".join(("file,class", *rows)) + "\n", encoding="utf-8")
    return path


def test_files_are_added_moved_and_left_out(tmp_path):
    for name in ("support/a/1.png", "support/a/2.png", "support/b/3.png", "support/b/4.png", "photos/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    support, photos = tmp_path / "support", tmp_path / "photos"
    files = [ImageFile(path.parent.name, path) for path in sorted(support.glob("*/*"))]
    table = write(tmp_path / "c.csv", "a/1.png,b", "b/3.png,", '5.png,"new, one"')
    found = apply_corrections(files, support, table, photos)
    assert [(file.class_name, file.path.name) for file in found.files] == [
        ("b", "1.png"), ("a", "2.png"), ("b", "4.png"), ("new, one", "5.png"),
    ]  # fmt: skip
    assert found.sentence == (
        "corrections: 1 photograph added, 1 photograph moved to another class, 1 photograph left out"
    )
    with pytest.raises(DataError, match=r"1 file neither in .*photos nor in .*support: 9\.png"):
        apply_corrections(files, support, write(tmp_path / "d.csv", "9.png,a"), photos)
    with pytest.raises(DataError, match="no photograph of a remains"):
        apply_corrections(files, support, write(tmp_path / "e.csv", "a/1.png,b", "a/2.png,b"), photos)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,class\nx,y\n", "the first line must be 'file,class', not 'name,class'"),
        ("file,class\n", "corrects nothing"),
        ("file,class\nx\n", "line 2: a row is a file and its class"),
        ("file,class\nx,a\nx,b\n", "line 3: x is given two classes, 'a' and 'b'"),
    ],
)
def test_tables_that_are_none(tmp_path, text, said):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_corrections(tmp_path / "c.csv")
    with pytest.raises(DataError, match="no readable csv"):
        read_corrections(tmp_path / "absent.csv")


def test_from_suggestion_to_a_better_classifier(folder, capsys):
    model, table, page = folder / "m", folder / "corrections.csv", folder / "label.html"
    photograph(folder / "ask" / "new yellow.png", (240, 240, 10), 5)  # of a class that nobody knows yet
    options = {"support": str(folder / "support"), "method": "nearest", **NETWORK}
    fit_folder(FitPhotographsConfig(**options, out=str(model)))
    asked = SuggestPhotographsConfig(str(folder / "ask"), str(model), n_suggestions=2, csv=str(table), html=str(page))
    found = suggest_photographs(asked)
    assert found[0].path == "new yellow.png"  # unlike all that is known
    assert [row["file"] for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())] == [
        p.path for p in found
    ]
    assert "2 photographs to label next" in page.read_text()
    write(table, f"{found[0].path},yellow")
    capsys.readouterr()
    fit_folder(FitPhotographsConfig(**options, out=str(model), corrections=[str(table)], photos=[str(folder / "ask")]))
    assert "corrections: 1 photograph added" in capsys.readouterr().out
    answers = predict_folder(PredictPhotographsConfig(str(folder / "ask"), str(model)))
    assert {p.path: p.answer for p in answers}["new yellow.png"] == "yellow"
    assert {p.answer for p in answers} <= {*COLOURS, "yellow"}


def test_rounds_of_corrections_are_applied_in_order(folder, capsys):
    for day, name in enumerate(("c", "a klein")):  # the same file name each day
        photograph(folder / f"day{day}" / "1.png", COLOURS[name], 50 + day)
        write(folder / f"day{day}.csv", f"1.png,{name}", *(["2.png,c"] if not day else []))
    photograph(folder / "day0" / "2.png", COLOURS["b größer"], 60)  # wrongly called c on the first day
    write(folder / "mended.csv", "2.png,b größer")
    rounds = [str(folder / name) for name in ("day0.csv", "day1.csv", "mended.csv")]
    places = [str(folder / name) for name in ("day0", "day1", "day0")]
    words = [
        "--support",
        str(folder / "support"),
        "--method",
        "nearest",
        "--backbone",
        "conv4",
        "--pretrained",
        "false",
    ]
    words += ["--size_px", "16", "--backbone_options.n_filters", "8", "--out", str(folder / "m"), "--corrections"]
    execute("fit", [*words, *rounds, "--photos", *places])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("corrections: ")]
    added, moved = "photograph added", "photograph moved to another class"
    assert said == [
        f"corrections: 2 {added.replace('ph ', 'phs ')}",
        f"corrections: 1 {added}",
        f"corrections: 1 {moved}",
    ]
    support = FewShotClassifier.load(folder / "m").support_
    assert np.bincount(support.labels).tolist() == [5, 5, 5]


def test_options_that_make_no_sense():
    with pytest.raises(ConfigError, match="one for each; got 2 for 3"):
        FitPhotographsConfig(support="x", out="y", corrections=["a", "b", "c"], photos=["d", "e"])
    with pytest.raises(ConfigError, match="--photos is the folder of the files in --corrections"):
        FitPhotographsConfig(support="x", out="y", photos=["z"])
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        SuggestPhotographsConfig("x", "y", n_suggestions=0)
    with pytest.raises(ConfigError, match="--model names"):
        SuggestPhotographsConfig("x")
