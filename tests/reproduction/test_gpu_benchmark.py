"""The measurements on a GPU, tried on toy sizes."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fewshot.reproduction.benchmarks import gpu, maml

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_every_part_has_its_numbers_in_toy_sizes(tmp_path):
    for part in gpu.PARTS:
        gpu.run_part(part, tmp_path, dry=True)
    numbers = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in gpu.PARTS}
    assert gpu.PARTS.keys() == gpu.SECONDS.keys()
    assert numbers["steps"].keys() == gpu.STEPS.keys()
    assert all(numbers["steps"][name]["images_per_s"] > 0 for name in gpu.STEPS)
    assert numbers["maml"]["plain loop, 1 inner steps, float32"] > 0
    assert numbers["evaluation"].keys() == set(gpu.FEATURE_METHODS)
    assert "ratio" in numbers["heads"]["logistic regression"]
    assert numbers["end_to_end"]["steps"] == 2
    assert "Self CPU" in (tmp_path / "profile.txt").read_text()


def test_numbers_are_kept_part_by_part_and_a_failure_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gpu.SECONDS, "heads", 0.01)
    assert gpu.measure(tmp_path, ["heads"], dry=False) == ["heads: not done after 0.01 s"]
    assert json.loads((tmp_path / gpu.RESULT).read_text())["heads"]["failed"] == "not done after 0.01 s"
    arguments = ("--out", str(tmp_path), "--dry", "true", "--parts", "[device]")
    assert run(monkeypatch, *arguments) == 0
    assert json.loads((tmp_path / gpu.RESULT).read_text())["device"]["name"] == "CPU"
    (tmp_path / "device.json").mkdir()  # so it cannot write its numbers
    assert run(monkeypatch, *arguments) == 1
    assert capsys.readouterr().err.startswith("failed:\ndevice: IsADirectoryError")


def test_an_unknown_part_is_refused(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--out", str(tmp_path), "--parts", "[device, speed]") == 2
    assert "speed are not among device, steps" in capsys.readouterr().err


def test_the_plain_loop_takes_the_same_meta_gradient():
    episode = maml.draw_omniglot_noise()
    few = type(episode)(*(x[:2] if isinstance(x, torch.Tensor) else x for x in vars(episode).values()))
    method = maml.make_method("maml", 2, adapt_norm=True, transductive=True, inner_lr=0.01).double()
    loop, network = maml.make_plain_loop(method, 2)
    theirs = loop(few)
    ours = method.loss(few)
    ours.backward()
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-9, atol=0)
    weights = dict(network.named_parameters())
    for name, p in [*method.backbone.named_parameters(prefix="0"), *method.classifier.named_parameters(prefix="1")]:
        torch.testing.assert_close(p.grad, weights[name].grad, rtol=1e-6, atol=1e-8, msg=name)
