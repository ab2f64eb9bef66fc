"""The measurements on a GPU, tried on toy sizes."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fewshot.benchmarks import gpu, maml

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_every_part_runs_dry_and_has_its_numbers(tmp_path, monkeypatch):
    assert run(monkeypatch, "--out", str(tmp_path), "--dry", "true") == 0
    numbers = json.loads((tmp_path / gpu.RESULT).read_text())
    assert numbers.keys() == gpu.PARTS.keys() == gpu.SECONDS.keys()
    assert numbers["steps"].keys() - {"seconds"} == gpu.STEPS.keys()
    assert all(numbers["steps"][name]["images_per_s"] > 0 for name in gpu.STEPS)
    assert numbers["evaluation"].keys() - {"seconds"} == set(gpu.FEATURE_METHODS)
    assert numbers["maml"]["plain loop, 1 inner steps, float32"] > 0
    assert numbers["end_to_end"]["steps"] == 2
    assert "Self CPU" in (tmp_path / "profile.txt").read_text()


def test_a_part_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gpu.SECONDS, "heads", 0.01)
    monkeypatch.setattr(gpu, "PARTS", {name: gpu.PARTS[name] for name in ("heads", "device")})
    assert gpu.measure(tmp_path, ["heads"], dry=False) == ["heads: not done after 0.01 s"]
    assert json.loads((tmp_path / gpu.RESULT).read_text())["heads"]["failed"] == "not done after 0.01 s"
    (tmp_path / "device.json").mkdir()  # it cannot write its numbers
    assert run(monkeypatch, "--out", str(tmp_path), "--dry", "true", "--parts", "[device]") == 1
    numbers = json.loads((tmp_path / gpu.RESULT).read_text())
    assert numbers["device"]["failed"].startswith("IsADirectoryError")
    assert capsys.readouterr().err.startswith("failed:\ndevice: IsADirectoryError")


def test_an_unknown_part_is_refused(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--out", str(tmp_path), "--parts", "[device, speed]") == 2
    assert "speed are not among device, steps" in capsys.readouterr().err


def test_the_plain_loop_goes_down_the_meta_gradient_that_ours_goes_down():
    episode = maml.episodes_of_noise()
    few = type(episode)(*(x[:2] if isinstance(x, torch.Tensor) else x for x in vars(episode).values()))
    method = maml.method_of("maml", 1, adapt_norm=True, transductive=True, inner_lr=0.4)
    ours = method.loss(few)
    assert ours.isfinite()
    maml.plain_loop(1)(few)
