"""The folder of a run: nothing is written outside of it, and an interrupted write leaves no half of a run."""

import json
import os
from pathlib import Path

import pytest

from fewshot.config import TrainConfig
from fewshot.errors import OutputError
from fewshot.training.run_folder import RunFolder


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "..", "a\x00b", "x\\y", "line\nbreak"])
def test_records_lie_in_the_folder_whatever_they_are_called(tmp_path, name):
    path = RunFolder(tmp_path / "run").records(name, "trained", "5-way 1-shot")
    assert path.parent == tmp_path / "run" / "records"
    assert path.resolve().is_relative_to(tmp_path / "run" / "records")
    assert "\n" not in path.name


def test_names_that_were_used_stay():
    path = RunFolder("run").records("", "raw pixels", "5-way 1-shot")
    assert path == Path("run/records/raw-pixels-5-way-1-shot.jsonl")


def test_a_kill_while_the_configuration_is_written_leaves_no_run(tmp_path, monkeypatch):
    def killed(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:5])
        raise KeyboardInterrupt

    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.claim(TrainConfig(), resume=False)
    monkeypatch.undo()
    assert not folder.config.exists()
    folder.claim(TrainConfig(), resume=False)  # the folder is still free
    assert json.loads(folder.config.read_text())["max_steps"] == TrainConfig().max_steps


def test_a_run_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").claim(TrainConfig(), resume=False)
    assert os.listdir(tmp_path) == ["file"]
