"""`scripts/classify.py`: check, fit and predict on a folder of drawn photographs, as a user would."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier, cli
from fewshot.config import CheckPhotographsConfig, FitPhotographsConfig, PredictPhotographsConfig
from fewshot.errors import ConfigError, DataError
from fewshot.photographs import checking, commands
from fewshot.photographs.checking import check_support
from fewshot.photographs.commands import fit_folder, predict_folder
from fewshot.photographs.encoding import list_photographs
from fewshot.runtime import seeding

SCRIPT = Path(__file__).parents[2] / "scripts" / "classify.py"
COLOURS = {"a klein": (200, 60, 40), "b größer": (40, 160, 60), "c": (50, 70, 210)}
NETWORK = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}


def photograph(path: Path, colour: tuple[int, int, int], number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = seeding.numpy_generator(number, "photograph", colour).normal(0, 25, (24, 30, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """support/class/film1_0.png …, two photographs of each of two films; ask/ with a few more, one of them broken."""
    for name, colour in COLOURS.items():
        for number in range(4):
            photograph(tmp_path / "support" / name / f"film{number // 2}_{number}.png", colour, number)
        photograph(tmp_path / "ask" / name / f"new {name}.png", colour, 99)
    photograph(tmp_path / "ask" / "loose.png", COLOURS["c"], 77)
    (tmp_path / "ask" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "ask" / "notes.txt").write_text("not asked about")
    return tmp_path


def test_fit_says_what_to_expect_and_writes_a_file(folder, capsys):
    fit_folder(FitPhotographsConfig(support=str(folder / "support"), groups="(.*)_", out=str(folder / "m"), **NETWORK))
    printed = capsys.readouterr().out
    assert "3 classes, 12 photographs (4 a class)" in printed
    assert re.search(r"accuracy of this classifier: 100\.0% \(95% interval .*12 photographs of 2 groups\)", printed)
    assert commands.EXPLANATION in printed
    assert FewShotClassifier.load(folder / "m").classes_.tolist() == list(COLOURS)


def test_predict_answers_lists_the_broken_and_knows_true_classes(folder, capsys, caplog):
    fit_folder(FitPhotographsConfig(support=str(folder / "support"), out=str(folder / "m"), **NETWORK))
    page, table = folder / "report.html", folder / "out.csv"
    found = predict_folder(PredictPhotographsConfig(str(folder / "ask"), str(folder / "m"), str(table), str(page)))
    assert {p.path: p.answer for p in found} == {f"{name}/new {name}.png": name for name in COLOURS} | {
        "loose.png": "c"
    }
    assert [p.truth for p in found if p.path == "loose.png"] == [None]
    assert all(n.class_name == p.answer for p in found for n in p.nearest[:1])
    printed = capsys.readouterr().out
    assert "4 photographs, 1 unreadable, 0 none of these" in printed
    assert "right: 100.0%" in printed
    assert "broken.jpg: this is no image" in caplog.text
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["file"]: row["prediction"] for row in rows} == {p.path: p.predicted for p in found}
    assert all(sum(float(row[name]) for name in COLOURS) == pytest.approx(1, abs=1e-5) for row in rows)
    assert "größer" in page.read_text(encoding="utf-8")


def test_the_support_is_still_seen_when_its_files_are_gone(folder):
    fit_folder(FitPhotographsConfig(support=str(folder / "support"), out=str(folder / "m"), **NETWORK))
    asked = PredictPhotographsConfig(str(folder / "ask"), str(folder / "m"), html=str(folder / "with.html"))
    predict_folder(asked)
    shutil.rmtree(folder / "support")
    predict_folder(replace(asked, html=str(folder / "without.html")))
    pages = [(folder / name).read_text(encoding="utf-8") for name in ("with.html", "without.html")]
    assert pages[0].count("data:image") == pages[1].count("data:image") > 4
    assert "no picture" not in pages[1]


def test_a_bad_file_in_the_support_is_named_or_skipped(folder):
    (folder / "support" / "c" / "bad.png").write_bytes(b"")
    options = {"support": str(folder / "support"), "out": str(folder / "m"), **NETWORK}
    with pytest.raises(DataError, match=r"bad\.png: the file is empty"):
        fit_folder(FitPhotographsConfig(**options))
    assert not (folder / "m").exists()
    assert len(fit_folder(FitPhotographsConfig(**options, skip_bad_images=True)).support_) == 12


def test_places_without_photographs(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photograph in it"):
        list_photographs(tmp_path / "empty")
    with pytest.raises(DataError, match="neither a photograph nor a folder"):
        list_photographs(tmp_path / "missing")
    assert list_photographs(folder / "ask" / "loose.png") == ([folder / "ask" / "loose.png"], "")
    with pytest.raises(ConfigError, match="--model names"):
        cli.parse(PredictPhotographsConfig, "", ["somewhere"], positional=["photos"])


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_script_checks_a_folder_and_estimates_its_accuracy(folder):
    page = folder / "check.html"
    network = ("--backbone", "conv4", "--pretrained", "false", "--size_px", 16, "--backbone_options.n_filters", 8)
    done = run("check", "--support", folder / "support", "--groups", "(.*)_", "--html", page, *network)
    assert done.returncode == 0, done.stderr
    assert "a klein " in done.stdout
    assert re.search(r"Leave-one-out accuracy: 100\.0%", done.stdout)
    assert checking.EXPLANATION in done.stdout
    assert "with 1 photograph a class" in done.stdout
    assert "</html>" in page.read_text()


def test_a_check_can_be_read_by_programs(folder):
    file = folder / "check.json"
    done = run("check", "--support", folder / "support", "--json", file, "--estimate", "false")
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["n_images"] == sum(found["class_counts"].values()) > 0
    assert all(finding["severity"] for finding in found["findings"])


def test_what_is_wrong_is_a_finding_and_the_estimate_goes_on_without_it(folder, capsys):
    support = folder / "support"
    shutil.copy(support / "c" / "film0_0.png", support / "a klein" / "again.png")
    (support / "empty").mkdir()
    photograph(support / "lonely" / "one.png", (240, 240, 10), 1)
    page, file = folder / "check.html", folder / "check.json"
    check_support(CheckPhotographsConfig(support=str(support), html=str(page), json=str(file), **NETWORK))
    printed, written = capsys.readouterr().out, page.read_text()
    kinds = {finding["kind"] for finding in json.loads(file.read_text())["findings"]}
    assert {"picture in two classes", "empty class", "one photograph"} <= kinds
    assert "no photograph of empty can be read" in printed
    assert re.search(r"Leave-one-out accuracy: .*, 11 photographs\)", printed)  # 4 + 4 + 3, neither copy
    assert "again.png" in written
    assert "Left out, fewer than two photographs: empty, lonely." in written
    assert "How many photographs are needed" in written
    assert "group" not in re.sub(r"<(style|script)>.*?</\1>", "", written, flags=re.DOTALL)
    assert "group" not in printed.replace("or group with --groups", "")


def test_too_little_for_an_estimate_is_said_and_there_is_a_page(folder, capsys):
    for name in ("b größer", "c"):
        shutil.rmtree(folder / "support" / name)
    (folder / "support" / "c").mkdir()
    page = folder / "check.html"
    check_support(CheckPhotographsConfig(support=str(folder / "support"), html=str(page), **NETWORK))
    assert "No estimate of the accuracy: it needs two classes" in capsys.readouterr().out
    assert "empty class" in page.read_text()


def test_the_script_knows_its_words(folder):
    assert run("--help").stdout.startswith("Your own photographs")
    done = run("prdict", folder)
    assert done.returncode == 2
    assert "Did you mean 'predict'?" in done.stderr
    done = run("fit", "--support", folder / "ask", "--out", folder / "m")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
