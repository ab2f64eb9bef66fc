"""An exported classifier notes what it answers, by numpy alone, and as the classifier itself does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot.errors import ConfigError, OutputError

pytest.importorskip("onnxscript", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
pytest.importorskip("onnxruntime", reason="what runs ONNX is not installed: pip install 'fewshot[export]'")

from test_export import COLOURS, draw_coin, fit

from fewshot import FewShotClassifier
from fewshot.photographs.drift.history import read_histories
from fewshot.photographs.drift.noting import note_predictions, open_record
from fewshot.photographs.pages.predictions import Prediction
from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.predictor import Predictor
from fewshot.photographs.serving.server_store import Store
from fewshot.photographs.serving.server_watch import ServerWatch

YELLOW = (200, 200, 40)


@pytest.fixture(scope="module", params=[{}, {"false_accept_rate": 0.3}], ids=["all answered", "refusing"])
def pair(request, tmp_path_factory) -> tuple[FewShotClassifier, Path]:
    classifier, folder = fit(**request.param), tmp_path_factory.mktemp("watched") / "coins"
    write_predictor(classifier, folder)
    return classifier, folder


def test_the_export_has_the_reference_and_learns_the_same_one_anew(pair):
    classifier, folder = pair
    predictor = Predictor(folder)
    stored = predictor.ask_learned().drift
    pictures = [draw_coin(colour, number) for colour in COLOURS.values() for number in range(4)]
    anew = Predictor(folder).fit(pictures, [n for n in COLOURS for _ in range(4)], [f"g{i % 4}" for i in range(12)])
    for found, tolerance in ((stored, 0), (anew.ask_learned().drift, 1)):
        expected = classifier.find_drift_reference()
        assert found.steps == pytest.approx(expected.steps, rel=1e-3)
        np.testing.assert_allclose(found.centre, expected.centre, atol=1e-5)
        np.testing.assert_array_equal(found.noted.nearest, expected.noted.nearest)
        for name, levels in expected.noted.levels.items():
            np.testing.assert_allclose(found.noted.levels[name], levels, atol=tolerance, err_msg=name)


def test_a_server_notes_what_predict_notes(pair, tmp_path):
    classifier, folder = pair
    pictures = [draw_coin(colour, 60 + n) for colour in (*COLOURS.values(), YELLOW) for n in range(3)]
    predictor = Predictor(folder)
    features = predictor.encode(predictor.read(pictures)[0])
    ServerWatch(str(tmp_path / "server.jsonl"), predictor).note(predictor, features, predictor.answer(features))
    content = classifier.embed(pictures)
    shares, answers = classifier.predict_proba(pictures), classifier.predict(pictures)
    names = [str(name) for name in classifier.classes_]
    told = [
        Prediction(f"{n}", None, names[int(row.argmax())], dict(zip(names, row.tolist(), strict=True)), a == "unknown")
        for n, (row, a) in enumerate(zip(shares, answers, strict=True))
    ]
    note_predictions(classifier, open_record(classifier, tmp_path / "predict.jsonl"), content, told)
    (by_server,), _ = read_histories(tmp_path / "server.jsonl")
    (by_predict,), _ = read_histories(tmp_path / "predict.jsonl")
    assert by_server.id == by_predict.id
    assert (by_server.noted.refused is None) == (classifier.rejection_ is None)
    for name in ("known", "sure", "length", "centre"):
        found, expected = (np.sort(h.noted.levels[name]) for h in (by_server, by_predict))
        np.testing.assert_allclose(found, expected, atol=1, err_msg=name)
    np.testing.assert_array_equal(np.sort(by_server.noted.nearest), np.sort(by_predict.noted.nearest))


@pytest.fixture
def folder(pair, tmp_path) -> Path:
    shutil.copytree(pair[1], tmp_path / "coins")
    return tmp_path / "coins"


def picture(number: int) -> np.ndarray:
    return np.asarray(draw_coin(COLOURS["c"], number))


def ask(store: Store, *numbers: int) -> None:
    store.answer(store.predictor.read([picture(number) for number in numbers])[0])


def test_a_class_that_is_added_begins_another_part_of_the_record(folder, tmp_path):
    record = tmp_path / "drift.jsonl"
    store = Store(folder, n_threads=1, watch=str(record))
    ask(store, 70, 71)
    changed = Predictor(folder, 1)
    changed.add_class("yellow", [draw_coin(YELLOW, n) for n in range(3)], ["g0", "g1", "g2"])
    store.predictor = changed
    ask(store, 72, 73, 74)
    store.close()
    before, after = read_histories(record)[0]
    assert (len(before), len(after)) == (2, 3)
    assert after.classes == (*before.classes, "yellow")
    assert len(after.left_out) == len(before.left_out) + 3


def test_answers_go_on_where_the_record_cannot_be_written(folder, tmp_path, monkeypatch, caplog):
    store = Store(folder, n_threads=1, watch=str(tmp_path / "drift.jsonl"))

    def fail(*_) -> None:
        raise OutputError("drift.jsonl cannot be written (No space left on device)")

    monkeypatch.setattr(store._watch._record, "append", fail)
    ask(store, 75, 76)
    ask(store, 77)
    store.close()
    assert store._watch.n_lost == 3
    assert [r.message for r in caplog.records] == [
        "answers are given, but not noted: drift.jsonl cannot be written (No space left on device)"
    ]


def test_a_folder_of_an_earlier_version_says_so_and_works(folder, pair, tmp_path, caplog):
    with np.load(folder / "head.npz") as file:
        old = {name: value for name, value in file.items() if not name.startswith("drift.")}
    np.savez(folder / "head.npz", **old)
    store = Store(folder, n_threads=1, watch=str(tmp_path / "drift.jsonl"))
    ask(store, 78)
    store.close()
    assert "was exported by an earlier version: its left-out photographs are looked at now" in caplog.text
    (history,), _ = read_histories(tmp_path / "drift.jsonl")
    assert (len(history), len(history.left_out)) == (1, len(pair[0].find_drift_reference().noted))
    facts = json.loads((folder / "labels.json").read_text())
    (folder / "labels.json").write_text(json.dumps(facts | {"fixed": "it is fixed"}))
    with pytest.raises(ConfigError, match="was exported by an earlier version, without numbers"):
        Store(folder, n_threads=1, watch=str(tmp_path / "drift.jsonl"))


def test_noting_needs_neither_torch_nor_this_package_s_estimator():
    """The record's module is what a server without torch imports."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom fewshot.photographs.drift.record import DriftRecord\n"
        "from fewshot.photographs.serving.server_watch import ServerWatch\n"
        "print([name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
