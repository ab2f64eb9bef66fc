"""A disk that fills while a command writes, and places that cannot be written: a sentence, status 2, nothing lost."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.commands import main
from fewshot.errors import DataError, OutputError
from fewshot.evaluation.report import check_section, write_section

N = ["--n_way", "2", "--n_shot", "1", "--n_query", "1", "--n_episodes", "20"]


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """The kernel writes no more than `n_bytes` to a file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))  # Python ignores the signal SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def call(*words: object) -> object:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained nothing, photographs, and a classifier of them."""
    place = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for number in range(60):
        path = place / "images" / ("train", "val", "test")[number % 3] / f"{number % 6}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    options = (
        f"--dataset folder --data_root {place}/images --dataset_options.size_px 8 --dataset_options.channels 1 "
        "--test_n_way 2 --test_n_shot 1 --test_n_query 1 --val_n_way 2 --val_n_query 1 --method protonet "
        "--backbone pixels --max_steps 0 --test_episodes 5 --test_floor false"
    )
    assert call("train", "--run_dir", place / "run", *options.split()) == 0
    for number in range(12):
        path = place / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 120, (16, 16, 3), np.uint8) + np.uint8(100 * (number % 2))).save(path)
    small = FewShotClassifier("conv4", pretrained=False, size_px=16, backbone_options={"n_filters": 4})
    small.fit_folder(place / "photos").save(place / "model.fewshot")
    return place


def write_words(made: Path, out: Path) -> dict[str, tuple[list[object], Path]]:
    """Commands that write, and the file that each replaces."""
    run, photos, model = made / "run", made / "photos", made / "model.fewshot"
    return {
        "evaluate": (["evaluate", "--run_dir", run, "--json", out / "a.jsonl", *N], out / "a.jsonl"),
        "compare": (["compare", run, run, "--out", out, *N], out / "a.jsonl"),
        "embed": (["embed", "--run_dir", run, "--out", out / "a.npz"], out / "a.npz"),
        "summarize": (["summarize", run, "--out", out / "a.md"], out / "a.md"),
        "export": (["export", "--model", model, "--out", out], out / "card.md"),
        "predict": (["predict", "--model", model, photos, "--html", out / "a.html"], out / "a.html"),
        "watch": (["predict", "--model", model, photos, "--watch", out / "drift"], out / "other"),
        "fit": (
            ["fit", "--support", photos, "--out", out / "a.fewshot", "--backbone", "conv4", "--pretrained", "false"],
            out / "a.fewshot",
        ),
    }


NAMES = list(write_words(Path(), Path()))


@pytest.mark.filterwarnings("ignore")  # of exporting
@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_is_one_sentence(made: Path, tmp_path: Path, name: str, capsys, monkeypatch):
    monkeypatch.setattr("fewshot.commands._give_up_stdout", lambda: pytest.fail("no file was named"))
    out = tmp_path / "out"
    out.mkdir()
    words, old = write_words(made, out)[name]
    old.write_text("the old file") if name != "watch" else None
    with full_disk(20_000 if name == "predict" else 300):
        status = call(*words)
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error")]
    assert status == 2, said.err
    assert len(errors) == 1
    assert "File too large" in errors[0]
    assert "Traceback" not in said.err
    assert not old.exists() or old.read_text() == "the old file"
    assert not [path for path in os.listdir(out) if path.startswith(".")]
    if name in ("predict", "watch"):
        assert sum(line.startswith(f"{made}") or "\t" in line for line in said.out.splitlines()) == 12
    shutil.rmtree(out)


@pytest.mark.filterwarnings("ignore")  # of exporting
def test_an_export_that_fails_leaves_the_one_before_whole(made: Path, tmp_path: Path, capsys):
    words, _ = write_words(made, tmp_path / "out")["export"]
    (tmp_path / "out" / ".export-killed").mkdir(parents=True)
    assert call(*words) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"encoder.onnx", "head.npz", "labels.json", "predictor.py"} < before.keys()
    assert not any(name.startswith(".") for name in before)
    for n_bytes in (300, 20_000, len(before["encoder.onnx"]) + 1):
        with full_disk(n_bytes):
            assert call(*words) == (2 if n_bytes < max(map(len, before.values())) else 0)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}.keys() == before.keys()
        assert (tmp_path / "out" / "encoder.onnx").read_bytes() == before["encoder.onnx"]


def test_event_files_on_a_full_disk_are_one_sentence(made: Path, tmp_path: Path, capfd):
    words = (
        f"--run_dir {tmp_path}/run --dataset folder --data_root {made}/images --dataset_options.size_px 8 "
        "--dataset_options.channels 1 --test_n_way 2 --test_n_shot 1 --test_n_query 1 --val_n_way 2 --val_n_query 1 "
        "--backbone pixels --max_steps 0 --test_episodes 5 --test_floor false --val_episodes 5"
    )
    with full_disk(3000):  # enough for the configuration
        assert call("train", *words.split()) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert f"error: {tmp_path}/run: event files for TensorBoard cannot be written (File too large)" in said


def test_suggestions_are_printed_where_they_cannot_be_written(made: Path, tmp_path: Path, capsys):
    words = ["suggest", made / "photos", "--model", made / "model.fewshot", "--n_suggestions", "3"]
    with full_disk(20_000):  # enough for pictures and table, not for the page
        assert call(*words, "--csv", tmp_path / "a.csv", "--html", tmp_path / "a.html") == 2
    said = capsys.readouterr()
    assert said.out.count("looks like") == 3
    assert "a.html cannot be written (File too large)" in said.err
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_cannot_be_is_refused_before_the_work(made, tmp_path, name, capsys, monkeypatch):
    (tmp_path / "file").touch()
    words, _ = write_words(made, tmp_path / "file" / "out")[name]
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_, **__: pytest.fail("it began to compute"))
    assert call(*words) == 2
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1
    assert str(tmp_path / "file") in said.err


@pytest.mark.parametrize("words", [["sweep", "--grid", "{lr: [0.1]}", "--summary"], ["summarize", "run", "--out"]])
def test_a_summary_of_another_ending_is_refused_before_runs_are_made(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(*words, "a.docx") == 2
    assert "a.docx: a summary is written to a file that ends in" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_report_of_reproduce_is_looked_at_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    (tmp_path / "half.md").write_text("<!-- reproduce glyphs: begin -->\n")
    for report, says in (("latin.md", "is no text in UTF-8"), ("half.md", "must hold"), (".", "it is a folder")):
        assert call("reproduce", "glyphs", "--methods", "protonet", "--report", report) == 2
        assert says in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["half.md", "latin.md"]
    before = (tmp_path / "latin.md").read_bytes()
    with pytest.raises(DataError):
        write_section("latin.md", "a", "A", "text")
    with pytest.raises(OutputError):
        check_section("half.md/a.md", "a")
    assert (tmp_path / "latin.md").read_bytes() == before
