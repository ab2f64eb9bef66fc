"""One optimizer step: float16 with scaled gradients, too little memory, deterministic algorithms, compilation."""

import functools
import os
from dataclasses import replace

import pytest
import torch
from conftest import stopped_after
from torch import nn

from fewshot import TrainConfig, train
from fewshot.errors import TrainingError
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.runtime.precision import autocast
from fewshot.runtime.signals import Interrupted
from fewshot.sampling.streams import EpisodeStream
from fewshot.training.learner import Learner
from fewshot.training.step import deterministic_algorithms

QUICK = TrainConfig(
    max_steps=6, train_n_way=4, train_n_query=3, val_n_query=3, val_episodes=30, val_every_steps=3,
    checkpoint_every_steps=2, precision="float32", schedule="constant", optimizer="sgd",
)  # fmt: skip


def weights_of(method):
    return torch.cat([p.detach().flatten() for p in method.parameters()])


def test_gradients_of_float16_are_those_of_float32_but_for_rounding(toy_sets, small_protonet):
    """The first steps in float16 overflow and are skipped; the first step that is taken is compared with float32."""
    moved = {}
    for precision in ("float32", "float16"):
        method = small_protonet()
        learner = Learner(method.train(), replace(QUICK, precision=precision, max_steps=30))
        stream = EpisodeStream(toy_sets[0], QUICK, torch.device("cpu"))
        before, norm = weights_of(method), torch.tensor(torch.inf)
        while not norm.isfinite():
            with autocast(precision, torch.device("cpu")):
                loss, _ = method.training_step(next(stream.iterate_passes(0)))
            learner.backward(loss)
            norm = learner.update()
        moved[precision] = weights_of(method) - before
    difference = (moved["float16"] - moved["float32"]).norm() / moved["float32"].norm()
    assert 0 < difference < 0.03  # rounding to 11 bits, through four layers and batch statistics


def test_float16_goes_on_bit_for_bit_with_the_scale_it_had(toy_sets, small_protonet, tmp_path):
    config = replace(QUICK, precision="float16", run_dir=str(tmp_path / "whole"))
    train(small_protonet(), *toy_sets[:2], config)
    halted = replace(config, run_dir=str(tmp_path / "halted"))
    with pytest.raises(Interrupted), stopped_after(3):
        train(small_protonet(), *toy_sets[:2], halted)
    train(small_protonet(), *toy_sets[:2], replace(halted, resume=True))
    whole, resumed = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "halted"))
    assert whole["scaler"] == resumed["scaler"]
    assert whole["scaler"]["scale"] > 1
    assert all(torch.equal(whole["method"][name], resumed["method"][name]) for name in whole["method"])


class Slope(nn.Module):
    """A loss of one weight, whose gradient is `slope`."""

    def __init__(self, slope):
        super().__init__()
        self.weight, self.slope = nn.Parameter(torch.ones(1)), slope

    def forward(self):
        return (self.weight * self.slope).sum()


def test_small_gradients_of_float16_are_not_lost():
    method = Slope(1e-7)
    learner = Learner(method, replace(QUICK, precision="float16", lr=1e6))
    learner.backward(method())
    assert learner.scaler.get_scale() > 1
    assert method.weight.grad.item() == pytest.approx(1e-7 * learner.scaler.get_scale())
    assert learner.update().item() == pytest.approx(1e-7)
    assert method.weight.item() == pytest.approx(1 - 1e6 * 1e-7)


@pytest.mark.filterwarnings("error")
def test_a_step_whose_gradients_overflow_changes_no_weight_and_halves_the_scale():
    method = Slope(1e37)
    learner = Learner(method, replace(QUICK, precision="float16", max_gradient_norm=1.0))
    before = learner.scaler.get_scale()
    learner.backward(method())
    assert not learner.update().isfinite()
    assert method.weight.item() == 1
    assert learner.scaler.get_scale() == before / 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_of_other_precisions_are_not_scaled(precision):
    method = Slope(2.0)
    learner = Learner(method, replace(QUICK, precision=precision))
    learner.backward(method())
    assert method.weight.grad.item() == 2
    assert learner.state()["scaler"] == {}


def test_too_little_memory_is_a_sentence_and_the_run_goes_on(toy_sets, small_protonet, tmp_path, monkeypatch):
    method, calls = small_protonet(), []
    training_step = type(method).training_step

    def exhausted(self, batch):
        calls.append(batch)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
        return training_step(self, batch)

    monkeypatch.setattr(type(method), "training_step", exhausted)
    config = replace(QUICK, run_dir=str(tmp_path / "run"))
    with pytest.raises(TrainingError, match=r"\(CUDA out of memory\)\. Raise accumulate_steps \(now 1\).*--resume"):
        train(method, *toy_sets[:2], config)
    result = train(small_protonet(), *toy_sets[:2], replace(config, resume=True))
    assert result.steps == config.max_steps
    assert len(calls) == 4 + 4  # steps 3 to 6 after the checkpoint of step 2
    monkeypatch.undo()
    train(small_protonet(), *toy_sets[:2], replace(config, run_dir=str(tmp_path / "whole")))
    resumed, whole = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(whole["method"][name], resumed["method"][name]) for name in whole["method"])


@pytest.mark.parametrize("enabled", [True, False])
def test_deterministic_algorithms_are_asked_for_while_training_and_no_longer(
    toy_sets, small_protonet, monkeypatch, enabled
):
    method, seen = small_protonet(), []
    training_step = type(method).training_step

    def watched(self, batch):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return training_step(self, batch)

    monkeypatch.setattr(type(method), "training_step", watched)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    train(method, toy_sets[0], None, replace(QUICK, deterministic=enabled))
    assert seen == [enabled] * QUICK.max_steps
    assert not torch.are_deterministic_algorithms_enabled()
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == enabled


def test_an_operation_that_cannot_be_deterministic_raises():
    with deterministic_algorithms(True), pytest.raises(RuntimeError, match="deterministic"):
        nn.functional.max_unpool2d(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.long), 2)


def test_a_compiled_step_trains_the_same(toy_sets, small_protonet, monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    weights = []
    for compiled in (False, True):
        method = small_protonet()
        train(method, toy_sets[0], None, replace(QUICK, compile=compiled))
        weights.append(weights_of(method))
        assert bool(torch._dynamo.utils.counters["frames"]["ok"]) == compiled
    torch.testing.assert_close(weights[1], weights[0])
