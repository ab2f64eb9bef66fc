"""Training: learns, selects weights on validation, resumes bit for bit, and refuses leaks and invalid options."""

import math
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import stopped_after, striped

from fewshot import ImageSet, TrainConfig, evaluate, train
from fewshot.errors import ConfigError, DataError, LeakageError, TrainingError
from fewshot.images.augment import Augmentation
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.runtime.provenance import hash_weights
from fewshot.runtime.seeding import generator
from fewshot.runtime.signals import Interrupted
from fewshot.sampling.episodes import EpisodeSpec
from fewshot.sampling.streams import EpisodeStream
from fewshot.training.optimization import make_learning_rate_factor

QUICK = TrainConfig(
    max_steps=12, train_n_way=4, train_n_query=3, val_n_query=3, val_episodes=30, val_every_steps=4,
    checkpoint_every_steps=5, precision="float32", schedule="constant",
)  # fmt: skip


def test_training_raises_accuracy_on_unseen_classes(toy_sets, small_protonet):
    train_set, val_set, test_set = toy_sets
    method = small_protonet()
    before = evaluate(method, test_set, EpisodeSpec(5, 1, 5), 300)
    result = train(method, train_set, val_set, replace(QUICK, max_steps=60, val_every_steps=20, lr=3e-3))
    after = evaluate(method, test_set, EpisodeSpec(5, 1, 5), 300)
    assert after.mean > before.mean + 2 * (after.half_width_95 + before.half_width_95)
    assert result.steps == 60
    assert result.best_step in (20, 40, 60)


def test_kept_weights_are_those_of_the_best_validation(toy_sets, small_protonet, tmp_path):
    train_set, val_set, _ = toy_sets
    method = small_protonet()
    result = train(method, train_set, val_set, replace(QUICK, run_dir=str(tmp_path), max_steps=40, lr=0.3))
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert best["progress"][1] == result.best_step
    assert best["progress"][2] == pytest.approx(result.validation.mean, abs=1e-12)
    assert all(torch.equal(best["method"][name], tensor) for name, tensor in method.state_dict().items())


def test_early_stopping_waits_for_patience(toy_sets, small_protonet):
    train_set, val_set, _ = toy_sets
    result = train(small_protonet(), train_set, val_set, replace(QUICK, lr=1e-12, max_steps=400, patience=3))
    assert result.steps == result.best_step + 3 * QUICK.val_every_steps < 400


def test_accumulated_passes_equal_one_pass(toy_sets, small_protonet):
    """Without batch statistics, two accumulated passes of two episodes equal one pass of four."""
    train_set = toy_sets[0]
    weights = []
    for passes in (1, 2, 4):
        method = small_protonet()
        for layer in method.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.train = lambda mode=True: None  # stays in evaluation mode
                layer.training = False
        train(
            method,
            train_set,
            None,
            replace(QUICK, max_steps=3, episodes_per_step=4, accumulate_steps=passes, optimizer="sgd"),
        )
        weights.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-5)


def test_learning_rate_schedules():
    config = TrainConfig(schedule="halve", lr_period_steps=10, max_steps=100)
    assert [make_learning_rate_factor(config)(s) for s in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    config = TrainConfig(schedule="cosine", max_steps=100, warmup_steps=4)
    assert [make_learning_rate_factor(config)(s) for s in (0, 1, 50, 100)] == pytest.approx(
        [0.25, 0.5 * (1 + math.cos(math.pi / 100)) / 2, 0.5, 0.0], abs=1e-3
    )


def test_weight_average_is_the_moving_mean(toy_sets, small_protonet, tmp_path):
    train_set = toy_sets[0]
    snapshots = []
    for steps in (1, 2, 3):
        method = small_protonet()
        train(method, train_set, None, replace(QUICK, max_steps=steps))
        snapshots.append(method.backbone.body.state_dict()["blocks.0.0.weight"].clone())
    method = small_protonet()
    train(method, train_set, None, replace(QUICK, max_steps=3, average_decay=0.8))
    expected = 0.8 * (0.8 * snapshots[0] + 0.2 * snapshots[1]) + 0.2 * snapshots[2]
    torch.testing.assert_close(method.backbone.body.state_dict()["blocks.0.0.weight"], expected)


RUN = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from conftest import stopped_after, striped
from fewshot import create_backbone, create_method, train, TrainConfig
from fewshot.runtime import seeding
with seeding.fork(0, "test"):
    method = create_method("protonet", create_backbone("conv4", 1, 16, n_filters=8))
config = TrainConfig(run_dir={run_dir!r}, resume={resume}, max_steps=30, train_n_way=4, train_n_query=3,
    val_n_query=3, val_episodes=30, val_every_steps=7, checkpoint_every_steps=3, schedule="cosine",
    average_decay=0.9, augmentation={{"rotation_degrees": 20.0}}, precision={precision!r})
train(method, striped(12, split="train"), striped(12, split="val", seed=1), config)
"""


def launched(tmp_path, name, resume=False, precision="float32"):
    code = RUN.format(
        tests=str(__import__("pathlib").Path(__file__).parents[1]), run_dir=str(tmp_path / name), resume=resume,
        precision=precision,
    )  # fmt: skip
    with (tmp_path / f"{name}.out").open("w") as output:
        return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=output)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_resumes_to_identical_weights(tmp_path, precision):
    assert launched(tmp_path, "whole", precision=precision).wait() == 0
    killed = launched(tmp_path, "killed", precision=precision)
    last = tmp_path / "killed" / "last.safetensors"
    while not last.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 0.4))  # so that the signal comes at any point of the run
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert launched(tmp_path, "killed", resume=True, precision=precision).wait() == 0
    for file in ("last.safetensors", "best.safetensors"):
        whole, resumed = (load_checkpoint(tmp_path / run / file) for run in ("whole", "killed"))
        assert whole["progress"][:3] == resumed["progress"][:3]
        for part in ("method", "training"):
            assert all(torch.equal(whole[part][k], resumed[part][k]) for k in whole[part]), (file, part)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_writes_a_checkpoint_and_says_so(tmp_path, number):
    run = launched(tmp_path, "stopped")
    while not (tmp_path / "stopped" / "last.safetensors").exists() and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(number)
    run.wait()
    output = (tmp_path / "stopped.out").read_text()
    if run.returncode != 0:  # otherwise it had ended before the signal
        assert run.returncode == 128 + number
        step = int(output.split("stopped at step ")[1].split(";")[0])
        assert load_checkpoint(tmp_path / "stopped" / "last.safetensors")["progress"][0] == step
    assert launched(tmp_path, "stopped", resume=True).wait() == 0


@pytest.mark.parametrize("steps", [4, 6, 12])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(toy_sets, small_protonet, tmp_path, steps):
    """A run can also be stopped at a step that would have been validated (after 4 and 12 steps)."""
    train_set, val_set, _ = toy_sets
    config = replace(QUICK, lr=0.05)
    runs = [replace(config, run_dir=str(tmp_path / name)) for name in ("whole", "stopped")]
    whole = train(small_protonet(), train_set, val_set, runs[0])
    with stopped_after(steps), pytest.raises(Interrupted):
        train(small_protonet(), train_set, val_set, runs[1])
    resumed = train(small_protonet(), train_set, val_set, replace(runs[1], resume=True))
    assert (resumed.steps, resumed.best_step) == (whole.steps, whole.best_step)
    assert resumed.validation.mean == whole.validation.mean
    kept = [load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "stopped")]
    assert [[v[0], *v[2:]] for v in kept[0]["history"]] == [[v[0], *v[2:]] for v in kept[1]["history"]]
    assert all(torch.equal(kept[0]["method"][name], kept[1]["method"][name]) for name in kept[0]["method"])


def test_run_folder_holds_one_configuration(toy_sets, small_protonet, tmp_path):
    train_set, val_set, _ = toy_sets
    config = replace(QUICK, run_dir=str(tmp_path / "run"))
    train(small_protonet(), train_set, val_set, config)
    with pytest.raises(ConfigError, match=r"another configuration \(lr: 0.001 there, 0.5 now\)"):
        train(small_protonet(), train_set, val_set, replace(config, lr=0.5))
    with pytest.raises(ConfigError, match="--resume"):
        train(small_protonet(), train_set, val_set, config)
    with pytest.raises(ConfigError, match="nothing to resume"):
        train(small_protonet(), train_set, val_set, replace(config, run_dir=str(tmp_path / "none"), resume=True))
    method = small_protonet(seed=1)
    again = train(method, train_set, val_set, replace(config, resume=True))  # a finished run: just its best weights
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")["method"]
    assert again.steps == 12
    assert all(torch.equal(best[name], tensor) for name, tensor in method.state_dict().items())


def test_test_split_cannot_be_reached(toy_sets, small_protonet):
    train_set, val_set, test_set = toy_sets
    with pytest.raises(LeakageError, match=r"striped/test.*cannot be used to train"):
        train(small_protonet(), test_set, val_set, QUICK)
    with pytest.raises(LeakageError, match="cannot be used to validate"):
        train(small_protonet(), train_set, test_set, QUICK)


def test_overlapping_splits_are_refused(toy_sets, small_protonet):
    with pytest.raises(DataError, match=r"'train' and 'val' overlap in 12 classes: train-0-0"):
        train(small_protonet(), toy_sets[0], toy_sets[0], QUICK)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(toy_sets, small_protonet, tmp_path):
    train_set = toy_sets[0]
    config = replace(QUICK, run_dir=str(tmp_path / "run"), optimizer="sgd", lr=1e30, checkpoint_every_steps=1)
    with pytest.raises(TrainingError, match=r"loss of step \d+ is not finite \(lr=1e\+30") as error:
        train(small_protonet(), train_set, None, config)
    kept = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert kept["progress"][0] < int(str(error.value).split("step ")[1].split(" ")[0])
    assert all(t.isfinite().all() for t in kept["method"].values()) or kept["progress"][0] == 1


def test_steps_take_the_same_episodes_however_they_are_split(toy_sets):
    train_set = toy_sets[0]
    split = [
        torch.cat([e.support_labels for e in EpisodeStream(train_set, config, torch.device("cpu")).iterate_passes(3)])
        for config in (replace(QUICK, episodes_per_step=4), replace(QUICK, episodes_per_step=4, accumulate_steps=4))
    ]
    assert torch.equal(*split)
    augmentation = {"rotation_degrees": 30.0, "colour": 0.2}
    images = [
        torch.cat([e.query for e in EpisodeStream(train_set, config, torch.device("cpu")).iterate_passes(3)])
        for passes in (1, 4)
        for config in (replace(QUICK, episodes_per_step=4, accumulate_steps=passes, augmentation=augmentation),)
    ]
    assert torch.equal(*images)


def test_augmentation_by_construction():
    images = torch.zeros(64, 3, 9, 9, dtype=torch.uint8)
    images[:, :, :, :4] = 200  # left part bright
    flipped = Augmentation(flip=True)(images, generator(0))
    mirrored = (flipped[:, 0, 4, 8] > 100).float().mean()
    assert 0.3 < mirrored < 0.7
    assert torch.equal(flipped[flipped[:, 0, 4, 8] > 100][0], images[0].flip(-1))
    assert torch.equal(Augmentation()(images, generator(0)), images)
    moved = Augmentation(shift=0.3)(images, generator(0))
    assert torch.equal(moved, Augmentation(shift=0.3)(images, generator(0)))
    assert len(moved[:, 0].sum((1, 2)).unique()) > 30
    grey = Augmentation(colour=0.5)(torch.full((50, 3, 4, 4), 100, dtype=torch.uint8), generator(1)).float()
    assert 50 <= grey.min() < 60
    assert 140 < grey.max() <= 150
    with pytest.raises(ConfigError, match="min_crop_area"):
        Augmentation(min_crop_area=0)


def test_nothing_is_left_behind_without_a_run_dir(toy_sets, small_protonet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(small_protonet(), *toy_sets[:2], QUICK)
    assert list(tmp_path.iterdir()) == []


def test_small_class_is_named(small_protonet):
    images = np.zeros((9, 1, 16, 16), np.uint8)
    small = ImageSet(images, [0] * 6 + [1] * 3, ["many", "few"])
    with pytest.raises(ValueError, match=r"few \(3\)"):
        train(small_protonet(), small, None, replace(QUICK, train_n_way=2))


def test_weights_can_be_saved_by_anyone_afterwards(toy_sets, small_protonet, tmp_path):
    from safetensors.torch import save_file

    method = small_protonet()
    train(method, *toy_sets[:2], replace(QUICK, max_steps=2))
    evaluate(method, toy_sets[2], EpisodeSpec(3, 1, 3), 5)
    save_file(method.state_dict(), tmp_path / "weights.safetensors")  # refuses weights that are not contiguous


def test_global_generators_are_left_alone(toy_sets, small_protonet):
    torch_before = torch.random.get_rng_state()
    train(small_protonet(), *toy_sets[:2], replace(QUICK, max_steps=2))
    assert torch.equal(torch.random.get_rng_state(), torch_before)


def test_same_seed_same_weights(toy_sets, small_protonet):
    hashes = []
    for seed in (0, 0, 1):
        method = small_protonet()
        train(method, *toy_sets[:2], replace(QUICK, seed=seed))
        hashes.append(hash_weights(method))
    assert hashes[0] == hashes[1] != hashes[2]


assert striped  # used by the launched runs
