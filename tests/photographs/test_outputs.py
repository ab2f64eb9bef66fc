"""Output of fit and predict: unambiguous columns, no lost answers, no file touched that was not asked for."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.config import FitPhotographsConfig, PredictPhotographsConfig
from fewshot.errors import CheckpointError, ConfigError, DataError, OutputError
from fewshot.estimator import storage
from fewshot.photographs.commands import fit_folder, predict_folder
from fewshot.photographs.encoding import list_photographs
from fewshot.photographs.pages.predictions import Prediction, write_csv
from fewshot.runtime import seeding
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.runtime.terminal import visible_text

SCRIPT = Path(__file__).parents[2] / "scripts" / "classify.py"
NETWORK = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}


def photograph(path: Path, kind: int, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = seeding.numpy_generator(number, "output", kind).normal(0, 25, (20, 20, 3))
    Image.fromarray((np.roll([200, 60, 40], kind) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def support(root: Path, *names: str) -> Path:
    for kind, name in enumerate(names):
        for number in range(4):
            photograph(root / name / f"{number}.png", kind, number)
    return root


def fit(tmp_path: Path, *names: str, **options) -> Path:
    model = tmp_path / "model.fewshot"
    root = support(tmp_path / "support", *(names or ("a", "b", "c")))
    fit_folder(FitPhotographsConfig(support=str(root), out=str(model), **NETWORK | options))
    return model


def predict(model: Path, photos: Path, **outputs) -> list[Prediction]:
    return predict_folder(PredictPhotographsConfig(str(photos), str(model), **outputs))


def prediction(shares: dict[str, float], rejected: bool = False, path: str = "x.png") -> Prediction:
    return Prediction(path, None, max(shares, key=shares.__getitem__), shares, rejected)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    "names",
    [
        ("rejected", "file", "accepted"),
        ("nearest_class", "class nearest_class", "class class nearest_class"),
        ("=x", "'=x", "class '=x"),
        ("prediction", "probability", "class rejected", "rejected"),
    ],
)
def test_no_two_columns_have_one_name(tmp_path, names):
    for ordered in (names, names[::-1]):
        shares = {name: (number + 1) / 10 for number, name in enumerate(ordered)}
        write_csv(tmp_path / "o.csv", [prediction(shares)], ordered)
        header, row = csv.reader((tmp_path / "o.csv").read_text().splitlines())
        assert len(set(header)) == len(header) == 5 + len(names)
        assert row[5:] == [f"{share:.6f}" for share in shares.values()]
        assert all(name.endswith(given) for name, given in zip(header[5:], ordered, strict=True))


def test_a_rejected_answer_is_none_and_its_nearest_class_stands_beside(tmp_path):
    write_csv(
        tmp_path / "o.csv", [prediction({"a": 0.7, "b": 0.3}, True), prediction({"a": 0.2, "b": 0.8})], ["a", "b"]
    )
    first, second = table(tmp_path / "o.csv")
    assert (first["prediction"], first["nearest_class"], first["rejected"]) == ("none of these", "a", "yes")
    assert (second["prediction"], second["nearest_class"], second["rejected"]) == ("b", "b", "no")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_is_a_formula(tmp_path, start):
    name = f'{start}HYPERLINK("x")'
    write_csv(tmp_path / "o.csv", [prediction({name: 0.9, "b": 0.1}, path=f"{start}x.png")], [name, "b"])
    cells = [cell for line in csv.reader((tmp_path / "o.csv").read_text().splitlines()) for cell in line]
    assert not [cell for cell in cells if cell.startswith(start)]
    assert f"'{name}" in cells


def test_a_class_called_like_the_answer_for_none_is_refused_and_the_answer_can_be_chosen(tmp_path, capsys):
    with pytest.raises(DataError, match=r"a class is called 'none of these'.*--unknown"):
        fit(tmp_path, "none of these", "b", "c", false_accept_rate=0.3)
    model = fit(tmp_path, "none of these", "b", "c", false_accept_rate=0.0, unknown="fremd")
    noise = seeding.numpy_generator(0, "strange").integers(0, 256, (20, 20, 3), dtype=np.uint8)
    (tmp_path / "ask").mkdir()
    Image.fromarray(noise).save(tmp_path / "ask" / "1.png")
    (found,) = predict(model, tmp_path / "ask", csv=str(tmp_path / "o.csv"), html=str(tmp_path / "o.html"))
    assert found.answer == "fremd"
    assert "1 fremd" in capsys.readouterr().out
    assert table(tmp_path / "o.csv")[0]["prediction"] == "fremd"
    assert "fremd below" in (tmp_path / "o.html").read_text()


def test_photographs_of_other_formats_are_counted(tmp_path, caplog):
    model = fit(tmp_path)
    photograph(tmp_path / "half" / "2.png", 0, 9)
    for name in ("half/1.CR2", "half/deep/3.nef", "all/1.cr2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(predict(model, tmp_path / "half")) == 1
    assert "left out: 2 photographs in formats that are not read (1 .cr2, 1 .nef): develop it" in caplog.text
    with pytest.raises(DataError, match=r"no photograph in it that can be read, but 1 photograph in a format .*\.cr2"):
        predict(model, tmp_path / "all")


def test_links_back_do_not_multiply_photographs(tmp_path):
    root = support(tmp_path / "ask", "a", "b")
    (root / "a" / "back").symlink_to(root)
    (root / "back").symlink_to(root)
    assert len(list_photographs(root)[0]) == 8


def test_a_bad_photograph_behind_the_first_sixty_four_is_left_out(tmp_path):
    model = fit(tmp_path)
    for number in range(70):
        photograph(tmp_path / "ask" / f"{number:02d}.png", number % 3, number)
    (tmp_path / "ask" / "67.png").write_bytes(b"no picture")
    assert [p.path for p in predict(model, tmp_path / "ask")] == [f"{n:02d}.png" for n in range(70) if n != 67]


def test_a_folder_of_splits_is_told_to_name_one(tmp_path):
    support(tmp_path / "train", "a", "b")
    support(tmp_path / "test", "a", "b")
    with pytest.raises(DataError, match=r"these are splits, each with folders of classes: name one of them, such as"):
        fit_folder(FitPhotographsConfig(support=str(tmp_path), out=str(tmp_path / "m"), **NETWORK))
    support(tmp_path / "extra", "a")
    with pytest.raises(DataError, match=r"test, train look like splits: name one of them"):
        fit_folder(FitPhotographsConfig(support=str(tmp_path), out=str(tmp_path / "m"), **NETWORK))


def test_a_path_that_the_file_names_is_not_opened(tmp_path):
    """A classifier file names a private picture of the user: its content must not get into the page."""
    model = fit(tmp_path)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), (1, 254, 3)).save(secret)
    state = load_checkpoint(model, storage.FORMAT)
    state["support"]["names"] = [str(secret)] * 12
    save_checkpoint(model, state, storage.FORMAT)
    photograph(tmp_path / "ask" / "1.png", 0, 50)
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    predict(model, tmp_path / "ask", html=str(tmp_path / "o.html"))
    assert str(secret) not in opened
    assert str(tmp_path / "ask" / "1.png") in opened
    assert (tmp_path / "o.html").read_text().count("data:image") >= 3  # the thumbnails that are in the file


def test_what_cannot_be_written_is_said_before_the_work_and_answers_are_printed_all_the_same(
    tmp_path, capsys, monkeypatch
):
    root = support(tmp_path / "support", "a", "b")
    with pytest.raises(OutputError, match="it is a folder"):
        fit_folder(FitPhotographsConfig(support="nothing there", out=str(tmp_path), **NETWORK))
    model = fit(tmp_path)
    with pytest.raises(OutputError, match="it is a device"):
        predict(model, tmp_path / "nothing there", csv="/dev/null")
    with pytest.raises(OutputError, match="reads or writes another file of that name"):
        predict(model, root, csv=str(model))
    capsys.readouterr()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        predict(model, root / "a", csv=str(tmp_path / "o.csv"))
    assert capsys.readouterr().out.splitlines()[0].startswith("0.png\ta\t")
    assert not (tmp_path / "o.csv").exists()


def test_names_do_not_control_the_terminal(tmp_path, capsys):
    assert visible_text("a\x1b[31mb\nc\udcff é") == "a\\x1b[31mb\\nc\\udcff é"
    model = fit(tmp_path)
    name = os.fsdecode(b"evil\x1b[2J\n\xff.png")
    photograph(tmp_path / "1.png", 0, 50)
    (tmp_path / "ask").mkdir()
    (tmp_path / "1.png").rename(tmp_path / "ask" / name)
    strict = os.environ | {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "predict", tmp_path / "ask", "--model", model],
        capture_output=True, env=strict, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(b"evil\\x1b[2J\\n\\udcff.png\ta\t")
    (tmp_path / "ask" / name).write_bytes(b"broken")
    done = subprocess.run(
        [sys.executable, SCRIPT, "predict", tmp_path / "ask", "--model", model],
        capture_output=True, env=strict, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    left_out, error = done.stderr.splitlines()  # a name does not begin a line of its own
    assert b"evil\\x1b[2J\\n" in left_out
    assert error.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


def test_photographs_need_a_backbone():
    with pytest.raises(ConfigError, match="photographs need a backbone"):
        FitPhotographsConfig(support="x", out="y", backbone=None)


def changes() -> dict[str, object]:
    """Changes to the content of a classifier file that keep its format tag."""

    def put(*keys: str, value: object):
        def change(state: dict) -> None:
            for key in keys[:-1]:
                state = state[key]
            state[keys[-1]] = value

        return change

    changed = {f"without {key}": lambda state, key=key: state.pop(key) for key in (
        "options", "plan", "method", "classes", "classes_dtype", "support", "temperature", "rejection",
    )}  # fmt: skip
    for key in ("options", "plan", "method", "classes", "classes_dtype", "support", "temperature"):
        for value in (None, 7, "word", [], {}):
            changed[f"{key}={value!r}"] = put(key, value=value)
    wrong = {
        "a class less": put("classes", value=["a", "b"]),
        "a class twice": put("classes", value=["a", "a", "b"]),
        "classes not in order": put("classes", value=["c", "b", "a"]),
        "labels beyond": put("support", "labels", value=torch.full((12,), 7)),
        "labels less": put("support", "labels", value=torch.zeros(3, dtype=torch.int64)),
        "names less": put("support", "names", value=["a"]),
        "names numbers": put("support", "names", value=[1] * 12),
        "digests less": put("support", "digests", value=torch.zeros(3, 8, dtype=torch.uint8)),
        "thumbnails flat": put("support", "thumbnails", value=torch.zeros(12, 9, dtype=torch.uint8)),
        "content narrow": put("support", "content", value=torch.zeros(12, 3)),
        "content nothing": put("support", "content", value=torch.full((12, 8), torch.nan)),
        "temperature zero": put("temperature", value=0.0),
        "temperature below": put("temperature", value=-1.0),
        "temperature nothing": put("temperature", value=float("nan")),
        "unknown option": put("options", "nonsense", value=1),
        "unknown backbone": put("plan", "backbone", value="resnet99"),
        "unknown method": put("plan", "method", value="nonsense"),
        "weights of a file": put("plan", "backbone_options", value={"n_filters": 8, "weights": "/etc/passwd"}),
        "published weights": put("plan", "backbone_options", value={"n_filters": 8, "pretrained": True}),
        "other network": put("plan", "backbone_options", value={"n_filters": 9}),
        "rejection": put("rejection", value={"threshold": "x", "n_unknown": 1}),
    }
    for right in ("options={}", "temperature=7", "classes_dtype=None"):  # defaults, and a temperature
        del changed[right]
    return changed | wrong


CHANGES = changes()


@pytest.mark.parametrize("name", CHANGES)
def test_foreign_contents_under_the_right_tag_are_one_sentence(tmp_path, name):
    images = [np.full((20, 20, 3), 60 * kind + number, np.uint8) for kind in range(3) for number in range(4)]
    path = tmp_path / "m.fewshot"
    FewShotClassifier(**NETWORK, calibrate=False).fit(images, list("aaaabbbbcccc")).save(path)
    state = load_checkpoint(path, storage.FORMAT)
    CHANGES[name](state)
    save_checkpoint(path, state, storage.FORMAT)
    with pytest.raises(CheckpointError, match=r"m\.fewshot is marked as a classifier, but its contents"):
        FewShotClassifier.load(path)
