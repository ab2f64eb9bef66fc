"""Small copies of runs: weights rounded to float16, an optimizer that begins anew, and a result that says so."""

import re
from dataclasses import replace

import pytest
import torch
from conftest import stopped_after

from fewshot import TrainConfig, train
from fewshot.errors import CheckpointError, ConfigError
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.runtime.signals import Interrupted
from fewshot.training.learner import Learner
from fewshot.training.small_copy import copy_small

CONFIG = TrainConfig(
    max_steps=8, train_n_way=4, train_n_query=3, val_n_query=3, val_episodes=30, val_every_steps=2,
    checkpoint_every_steps=1, precision="float32", optimizer="adam", lr=0.01, average_decay=0.9,
)  # fmt: skip


@pytest.fixture
def stopped(toy_sets, small_protonet, tmp_path):
    """A run that was stopped at step 5 of 8, and the folder of its small copy."""
    run = tmp_path / "run"
    with stopped_after(5), pytest.raises(Interrupted):
        train(small_protonet(), *toy_sets[:2], replace(CONFIG, run_dir=str(run)))
    copy_small(run, tmp_path / "small" / "run")
    return run, tmp_path / "small" / "run"


def test_a_copy_holds_rounded_weights_and_no_optimizer(stopped):
    run, copy = stopped
    assert {path.name for path in copy.iterdir()} == {
        "config.json", "best.safetensors", "last.safetensors", "training_sets.safetensors",
    }  # fmt: skip
    assert (copy / "config.json").read_bytes() == (run / "config.json").read_bytes()
    whole, small = (load_checkpoint(folder / "last.safetensors") for folder in (run, copy))
    for part in ("method", "training"):  # the average, and the weights that are trained
        for name, weights in whole[part].items():
            expected = weights.half() if weights.dim() > 1 else weights
            assert torch.equal(small[part][name], expected), name
            assert small[part][name].dtype == expected.dtype
    assert (small["optimizer"], small["restarts"]) == (None, [5])
    unchanged = set(whole) - {"method", "training", "optimizer", "restarts"}
    assert {name: whole[name] for name in unchanged} == {name: small[name] for name in unchanged}
    sizes = [(folder / "last.safetensors").stat().st_size for folder in (run, copy)]
    assert sizes[1] < sizes[0] / 2


def test_weights_that_float16_cannot_hold_stay_as_they_are(stopped, tmp_path):
    run, _ = stopped
    state = load_checkpoint(run / "last.safetensors")
    name = next(name for name, weights in state["method"].items() if weights.dim() > 1)
    state["method"][name][0] = 1e5  # float16 ends at 65,504
    save_checkpoint(run / "last.safetensors", state)
    copy_small(run, tmp_path / "large")
    assert torch.equal(load_checkpoint(tmp_path / "large" / "last.safetensors")["method"][name], state["method"][name])


def test_a_run_goes_on_from_its_copy_with_a_learning_rate_that_grows(stopped, toy_sets, small_protonet):
    _, copy = stopped
    config = replace(CONFIG, run_dir=str(copy), resume=True)
    learner = Learner(small_protonet(), config)
    learner.restore(load_checkpoint(copy / "last.safetensors"))
    assert not learner.optimizer.state
    by_cosine = [0.01 * 0.5 * (1 + torch.tensor(torch.pi * step / 8).cos().item()) for step in (5, 6)]
    rates = [learner.schedule.get_last_lr()[0], learner.optimizer.param_groups[0]["lr"]]
    assert rates == pytest.approx([by_cosine[0] / 200] * 2)
    learner.schedule.step()
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(2 * by_cosine[1] / 200)
    train(small_protonet(), *toy_sets[:2], config)
    last = load_checkpoint(copy / "last.safetensors")
    assert (last["progress"][0], last["restarts"]) == (8, [5])
    assert [step for step, *_ in last["history"]] == [2, 4, 6, 8]
    assert last["optimizer"]["state"][0]["step"] == 3  # Adam counts the steps since it began anew


def test_after_a_restart_a_run_resumes_bit_for_bit(stopped, toy_sets, small_protonet, tmp_path):
    _, copy = stopped
    copy_small(copy, tmp_path / "twin")  # a copy of a copy adds no restart
    assert load_checkpoint(tmp_path / "twin" / "last.safetensors")["restarts"] == [5]
    config = replace(CONFIG, run_dir=str(copy), resume=True)
    train(small_protonet(), *toy_sets[:2], config)
    twin = replace(config, run_dir=str(tmp_path / "twin"))
    with stopped_after(7), pytest.raises(Interrupted):
        train(small_protonet(), *toy_sets[:2], twin)
    train(small_protonet(), *toy_sets[:2], twin)
    once, twice = (load_checkpoint(folder / "last.safetensors") for folder in (copy, tmp_path / "twin"))
    assert all(torch.equal(once["training"][name], twice["training"][name]) for name in once["training"])


def test_an_optimizer_that_is_missing_without_a_restart_is_refused(stopped, toy_sets, small_protonet):
    run, _ = stopped
    save_checkpoint(run / "last.safetensors", load_checkpoint(run / "last.safetensors") | {"optimizer": None})
    with pytest.raises(CheckpointError, match="does not hold the state of a run"):
        train(small_protonet(), *toy_sets[:2], replace(CONFIG, run_dir=str(run), resume=True))


def test_what_is_no_run_and_a_copy_onto_itself_are_refused(stopped, tmp_path):
    run, _ = stopped
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path} is no run folder")):
        copy_small(tmp_path, tmp_path / "small")
    with pytest.raises(ConfigError, match="cannot be copied onto itself"):
        copy_small(run, run)
