"""A run that goes on: what it asks, what it takes from its folder, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from fewshot import TrainConfig, train
from fewshot.commands import execute
from fewshot.config import ExperimentConfig
from fewshot.errors import ConfigError
from fewshot.experiments import build
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.training.run_folder import RunFolder

QUICK = {"val_n_query": 2, "val_episodes": 4, "train_n_way": 3, "train_n_query": 2, "val_n_way": 3}


@pytest.fixture
def held(tmp_path):
    """A run folder, and the function that says which options a command of these words would go on with."""
    config = ExperimentConfig(
        run_dir=str(tmp_path / "run"), lr=0.5, train_n_way=(3, 7), schedule="constant", max_steps=9
    )
    RunFolder(tmp_path / "run").claim(config, resume=False)

    def read(*words: str) -> ExperimentConfig:
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fewshot.commands.train.run", seen.append)
            execute("train", ["--run_dir", str(tmp_path / "run"), *words])
        return seen[0]

    return read


def test_the_folder_is_enough_and_options_beside_it_hold(held):
    assert held().lr == TrainConfig().lr  # without --resume the folder says nothing
    config = held("--resume")
    assert (config.lr, list(config.train_n_way), config.max_steps, config.resume) == (0.5, [3, 7], 9, True)
    config = held("--resume", "auto", "--max_steps", "20", "--test_floor", "false")
    assert (config.lr, config.max_steps, config.test_floor, config.resume) == (0.5, 20, False, "auto")


def claim(tmp_path, resume, **changes):
    config = ExperimentConfig(**{"run_dir": str(tmp_path / "run"), "schedule": "constant", "max_steps": 9} | changes)
    RunFolder(tmp_path / "run").claim(config, resume)
    return json.loads((tmp_path / "run" / "config.json").read_text())


def test_what_may_differ_and_what_may_not(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing to resume.*--resume auto begins one"):
        claim(tmp_path, True)
    claim(tmp_path, "auto")
    assert claim(tmp_path, "auto")["max_steps"] == 9
    assert claim(tmp_path, True, max_steps=12)["max_steps"] == 12
    for changes in ({"max_steps": 5}, {"max_steps": 12, "lr": 0.5}, {"max_steps": 12, "schedule": "cosine"}):
        with pytest.raises(ConfigError, match="another configuration"):
            claim(tmp_path, True, **changes)
    with pytest.raises(ConfigError, match="already holds this run"):
        claim(tmp_path, False, max_steps=12)


def test_steps_do_not_grow_where_the_rate_ends_with_them(tmp_path):
    claim(tmp_path, False, schedule="cosine")
    with pytest.raises(ConfigError, match="max_steps may grow where the schedule is constant or halve"):
        claim(tmp_path, True, schedule="cosine", max_steps=12)


def test_a_run_needs_a_folder_to_go_on_in_and_a_command_of_its_kind(tmp_path):
    with pytest.raises(ConfigError, match="name it with run_dir"):
        TrainConfig(resume=True)
    claim(tmp_path, False)
    with pytest.raises(ConfigError, match="holds a run of kind episodic"):
        execute("pretrain", ["--run_dir", str(tmp_path / "run"), "--resume"])


def test_more_steps_give_the_weights_of_a_run_that_had_them_from_the_start(tmp_path, toy_sets, small_protonet):
    def run(name, max_steps, resume=False):
        config = TrainConfig(run_dir=str(tmp_path / name), max_steps=max_steps, resume=resume, schedule="constant",
                             val_every_steps=2, precision="float32", **QUICK)  # fmt: skip
        train(small_protonet(), *toy_sets[:2], config)
        return load_checkpoint(tmp_path / name / "last.safetensors")["method"]

    run("grown", 2)
    whole, grown = run("whole", 4), run("grown", 4, resume=True)
    assert all(torch.equal(whole[name], grown[name]) for name in whole)


def test_a_run_finds_its_plugin_from_anywhere_and_after_both_were_moved(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "project" / "mine.py").write_text("")
    RunFolder("runs/a").claim(ExperimentConfig(plugins=["mine.py"], run_dir="runs/a"), resume=False)
    assert json.loads((tmp_path / "project" / "runs" / "a" / "config.json").read_text())["plugins"] == ["../../mine.py"]
    monkeypatch.chdir(tmp_path)
    os.rename("project", "moved")
    found = RunFolder("moved/runs/a").load_config().plugins
    assert os.path.samefile(found[0], tmp_path / "moved" / "mine.py")


def test_early_runs_name_their_plugin_from_the_folder_they_began_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    claim(tmp_path, False)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"plugins": ["mine.py", "a.package"]}))
    assert RunFolder("run").load_config().plugins == ["mine.py", "a.package"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test_dataset": "rgb"}, "have channels=3, those that are trained on 1"),
        ({"test_dataset": "large"}, "have 20 x 20 px, those that are trained on 16 x 16 px.*size_px"),
        ({"test_dataset": "large", "test_dataset_options": {"size_px": 20}}, ""),
        ({"test_dataset": "large", "max_steps": 0}, ""),
        ({}, ""),
    ],
)
def test_test_sets_of_another_shape_are_refused_before_training(toy_sets, monkeypatch, change, says):
    shapes = {"rgb": (3, 16, 16), "large": (1, 20, 20), None: toy_sets[2].image_shape}

    class Shaped:
        def __init__(self, imageset, shape):
            self.imageset, self.image_shape = imageset, shape

        def __getattr__(self, name):
            return getattr(self.imageset, name)

        def __str__(self):
            return "the set"

    monkeypatch.setattr(build, "load_split", lambda c, *_, **__: Shaped(toy_sets[2], shapes[c.test_dataset]))
    config = ExperimentConfig(**{"test_n_way": [2], "test_n_shot": [1], "test_n_query": 1} | change)
    if says:
        with pytest.raises(ConfigError, match=says):
            build.load_test_sets(config, toy_sets[0].image_shape)
    else:
        build.load_test_sets(config, toy_sets[0].image_shape)


def test_an_interruption_while_modules_are_imported_is_no_traceback():
    """Python itself answers before `main` is reached; then the command does."""
    command = (
        "import signal, sys, time, fewshot.commands as c; sys.modules['fewshot.cli'] = None\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell's background ignores it\n"
        "c._run = lambda *_: (print('here', flush=True), time.sleep(60))\nc.main(['train'])"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=-1, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[1] == ""
        assert child.returncode == 130
