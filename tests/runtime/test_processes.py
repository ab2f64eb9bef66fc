"""Several processes compute the same as one: weights, records, interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fewshot import Records, create_backbone, create_method
from fewshot.runtime import seeding
from fewshot.runtime.checkpoint import load_checkpoint

TRAIN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import striped
from fewshot import EpisodeSpec, TrainConfig, create_backbone, create_method, evaluate, train
from fewshot.runtime import processes
from fewshot.runtime import seeding
with seeding.fork(0, "test"):
    method = create_method("protonet", create_backbone("conv4", 1, 16, n_filters=8))
config = TrainConfig(run_dir={run_dir!r}, max_steps={steps}, train_n_way=4, train_n_query=3, episodes_per_step=4,
    accumulate_steps={passes}, val_n_query=3, val_episodes=30, val_every_steps=10, precision="float32",
    augmentation={{"rotation_degrees": 20.0}}, lr=2e-4, optimizer="sgd")
train(method, striped(12, split="train"), striped(12, split="val", seed=1), config)
with seeding.fork(1, "test"):
    fresh = create_method("protonet", create_backbone("conv4", 1, 16, n_filters=8))
records = evaluate(fresh, striped(40, split="test", seed=2), EpisodeSpec(5, 1, 5), 2500)
print("process", processes.rank(), "of", processes.world_size(), "has", len(records.episodes))
if processes.is_first():
    records.write({run_dir!r} + "/records.jsonl")
"""


def launch(tmp_path: Path, name: str, processes: int, steps: int = 20, passes: int = 1) -> subprocess.Popen:
    script = tmp_path / f"{name}.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(TRAIN.format(tests=tests, run_dir=str(tmp_path / name), steps=steps, passes=passes))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script)]
    with (tmp_path / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    for name, processes, passes in (("one", 1, 1), ("two", 2, 1), ("one_split", 1, 2), ("two_split", 2, 2)):
        assert launch(folder, name, processes, passes=passes).wait() == 0, (folder / f"{name}.log").read_text()[-3000:]
    return folder


@pytest.mark.parametrize("split", ["", "_split"])
def test_two_processes_train_the_same_weights(runs, split):
    one, two = (load_checkpoint(runs / f"{name}{split}" / "last.safetensors") for name in ("one", "two"))
    for name, tensor in one["method"].items():
        torch.testing.assert_close(two["method"][name], tensor, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    with seeding.fork(0, "test"):
        initial = create_method("protonet", create_backbone("conv4", 1, 16, n_filters=8)).state_dict()
    moved = (one["method"]["backbone.body.blocks.0.0.weight"] - initial["backbone.body.blocks.0.0.weight"]).abs().max()
    assert moved > 1e-3  # a hundred times the tolerance


def test_evaluation_is_sharded_and_gives_identical_records(runs):
    log = (runs / "two.log").read_text()
    assert "process 0 of 2 has 2500" in log
    assert "process 1 of 2 has 2500" in log
    one, two = (Records.read(runs / name / "records.jsonl") for name in ("one", "two"))
    assert one.header.weights == two.header.weights
    for a, b in zip(one.episodes, two.episodes, strict=True):
        assert a._replace(seconds=0) == b._replace(seconds=0)


def test_only_the_first_process_writes(runs):
    events = list((runs / "two").glob("events.out*"))
    assert len(events) == 1
    held = json.loads((runs / "two" / "config.json").read_text())
    assert held["max_steps"] == 20


def test_a_killed_process_ends_the_others_with_a_message(tmp_path):
    run = launch(tmp_path, "long", 2, steps=100_000)
    last = tmp_path / "long" / "best.safetensors"
    deadline = time.monotonic() + 90
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert last.exists(), (tmp_path / "long.log").read_text()[-3000:]
    workers = [int(p) for p in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    assert run.wait(timeout=60) != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "SIGKILL" in (tmp_path / "long.log").read_text() or "-9" in (tmp_path / "long.log").read_text()
