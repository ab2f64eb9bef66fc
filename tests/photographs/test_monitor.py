"""`fewshot monitor`, which judges a record."""

import json

import numpy as np
import pytest
from drift_cases import CLASSES, make_reference, note
from PIL import Image

from fewshot import FewShotClassifier, commands
from fewshot.photographs.drift.history import parse_time
from fewshot.photographs.drift.record import DriftRecord
from fewshot.runtime import seeding


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of three colours, a classifier of them, and photographs asked about: alike, and grey ones."""
    root = tmp_path_factory.mktemp("watched")
    colours = {"red": (200, 60, 60), "green": (60, 180, 60), "blue": (60, 60, 200)}

    def draw(name: str, number: int, mix: float) -> Image.Image:
        rng = seeding.numpy_generator(number, "photograph", name)
        colour = (1 - mix) * np.array(colours[name]) + mix * 128 + rng.normal(0, 12, 3)
        return Image.fromarray((colour + rng.normal(0, 20, (16, 16, 3))).clip(0, 255).astype(np.uint8))

    for name in colours:
        for place, first, n, mix in (("support", 0, 8, 0.0), ("alike", 100, 20, 0.0), ("grey", 200, 20, 0.9)):
            (root / place / name).mkdir(parents=True)
            for number in range(first, first + n):
                draw(name, number, mix).save(root / place / name / f"secret-{number}.png")
    options = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}
    classifier = FewShotClassifier(**options, device="cpu", false_reject_rate=0.1)
    classifier.fit_folder(root / "support").save(root / "colours.fewshot")
    return root


@pytest.fixture(autouse=True)
def same_order(monkeypatch):
    """Photographs of a call are shuffled; here in the same way each time, so that no test fails by chance."""
    original = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=0: original(seed))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        commands.main([str(word) for word in words])
    return int(ended.value.code or 0)


def ask(folder, place: str, record) -> None:
    commands.execute(
        "predict", [str(folder / place), "--model", str(folder / "colours.fewshot"), "--watch", str(record)]
    )


def test_predict_notes_and_monitor_tells(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    ask(folder, "alike", record)
    assert run("monitor", record) == 0
    said = capsys.readouterr().out
    assert "60 photographs from" in said
    assert "photographs: nothing says that photographs differ" in said
    for _ in range(2):
        ask(folder, "grey", record)
    capsys.readouterr()
    page, summary = tmp_path / "monitor.html", tmp_path / "monitor.json"
    assert run("monitor", record, "--html", page, "--json", summary) == 1
    said = capsys.readouterr().out
    assert "photographs: ALARM at photograph" in said
    told = json.loads(summary.read_text())
    assert told["alarm"] is True
    assert told["n_photographs"] == 180
    assert 40 <= told["tests"]["photographs"]["probably_since_photograph"] <= 64
    assert told["tests"]["photographs"]["photograph"] > 60
    assert sum(told["nearest_class"].values()) == 180
    written = page.read_text()
    assert written.count("<svg") == 7
    assert "default-src 'none'" in written
    text = record.read_text()
    assert "secret" not in text
    assert str(folder) not in text


def test_only_what_came_since_a_time_is_judged(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    ask(folder, "grey", record)
    old = record.read_text().replace('"at":"20', '"at":"19')
    record.write_text(old)
    ask(folder, "alike", record)
    assert run("monitor", record, "--since", "2020-01-01") == 0
    assert "60 photographs from 20" in capsys.readouterr().out
    assert run("monitor", record, "--since", "2200-01-01") == 2
    assert "nothing was asked of the classifier" in capsys.readouterr().err
    assert run("monitor", record, "--since", "soon") == 2
    assert parse_time("2026-11-28T12:00+02:00") == np.datetime64("2026-11-28T10:00")


def test_an_earlier_classifier_in_the_record_is_not_judged(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    reference = make_reference()
    DriftRecord(record, reference, CLASSES, "none").append(note(reference, 5))
    ask(folder, "alike", record)
    assert run("monitor", record, "--html", tmp_path / "page.html") == 0
    said = capsys.readouterr().out
    assert "60 photographs from" in said
    assert "5 photographs of 1 other classifier in the same record are not judged" in said


def test_names_of_classes_are_escaped_on_the_page(tmp_path):
    record, reference = tmp_path / "drift.jsonl", make_reference()
    DriftRecord(record, reference, CLASSES, "<none>").append(note(reference, 50))
    assert run("monitor", record, "--html", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "b &amp; &lt;b&gt;" in page
    assert "&lt;none&gt;" in page
    assert "<b>" not in page.split("</header>")[1]
