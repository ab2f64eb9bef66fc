"""Training that stops at a stated accuracy, and the clock that it is held against."""

import dataclasses
import json
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot import TrainConfig, train
from fewshot.errors import ConfigError
from fewshot.reproduction import benchmarks
from fewshot.reproduction.benchmarks import arithmetic, end_to_end, estimator, reuse, tensorboard
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.runtime.memory import measure_peak_mib

QUICK = TrainConfig(
    max_steps=40, train_n_way=5, train_n_shot=1, train_n_query=3, val_n_way=3, val_n_query=3, val_episodes=30,
    val_every_steps=5, checkpoint_every_steps=5, precision="float32", lr=1e-2, schedule="constant",
)  # fmt: skip


def test_training_stops_at_the_first_validation_that_is_good_enough(toy_sets, small_protonet, tmp_path):
    train_set, val_set, _ = toy_sets
    whole = dataclasses.replace(QUICK, run_dir=str(tmp_path / "whole"))
    train(small_protonet(), train_set, val_set, whole)
    history = load_checkpoint(tmp_path / "whole" / "last.safetensors")["history"]
    assert len(history) == 8
    goal = max(mean for _, _, mean, _ in history[:5])  # reached at or before step 25
    expected = next(step for step, _, mean, _ in history if mean >= goal)
    early = dataclasses.replace(QUICK, run_dir=str(tmp_path / "early"), stop_at_accuracy=goal)
    result = train(small_protonet(), train_set, val_set, early)
    assert (result.steps, result.best_step) == (expected, expected)
    assert result.validation.mean == pytest.approx(goal)
    resumed = train(small_protonet(), train_set, val_set, dataclasses.replace(early, resume=True))
    assert resumed.steps == expected  # it has ended


def test_a_goal_that_is_not_reached_ends_nothing(toy_sets, small_protonet):
    train_set, val_set, _ = toy_sets
    result = train(
        small_protonet(), train_set, val_set, dataclasses.replace(QUICK, lr=1e-9, max_steps=15, stop_at_accuracy=1.0)
    )
    assert result.steps == 15


@pytest.mark.parametrize("goal", [-0.1, 97.5])
def test_a_goal_is_a_fraction(goal):
    with pytest.raises(ConfigError, match=f"stop_at_accuracy is a fraction between 0 and 1, got {goal}"):
        TrainConfig(stop_at_accuracy=goal)


@pytest.fixture
def recipe(tmp_path, toy_sets, monkeypatch):
    """A recipe of the toy set."""
    train_set, val_set, _ = toy_sets
    monkeypatch.setattr(end_to_end, "load_split", lambda config, split: {"train": train_set, "val": val_set}[split])
    path = tmp_path / "protonet.yaml"
    path.write_text(
        "backbone_options: {n_filters: 8}\ntrain_n_way: 5\ntrain_n_query: 3\nval_n_query: 3\nprecision: float32\n"
        "schedule: cosine\nval_n_way: 3\nepisodes_per_step: 2\nlr: 0.01\n"
    )
    return path


def test_the_time_to_an_accuracy(recipe, monkeypatch):
    seen = []
    real = end_to_end.train
    monkeypatch.setattr(end_to_end, "train", lambda *a: seen.append(a[-1]) or real(*a))
    changes = {"val_episodes": 40, "val_every_steps": 2, "checkpoint_every_steps": 2}
    numbers = end_to_end.measure_time_to_accuracy(recipe, 0.22, **changes)
    curve, (config,) = numbers["curve"], seen
    assert (config.val_n_way, config.val_n_shot, config.schedule, config.stop_at_accuracy) == (5, 1, "halve", 0.22)
    assert [step for step, *_ in curve] == list(range(2, numbers["steps"] + 1, 2))
    assert all(mean < 0.22 <= curve[-1][2] for _, _, mean, _ in curve[:-1])
    assert (numbers["reached"], numbers["accuracy"], numbers["seconds"]) == (1.0, curve[-1][2], curve[-1][1])
    assert numbers["images/s"] == pytest.approx(numbers["steps/s"] * 2 * 5 * (1 + 3))
    training_seconds = numbers["seconds"] * (1 - numbers["validation_share"])
    assert numbers["steps/s"] == pytest.approx(numbers["steps"] / training_seconds)
    assert 0 < numbers["validation_share"] < 1


def test_an_accuracy_that_is_not_reached_says_so(recipe):
    numbers = end_to_end.measure_time_to_accuracy(
        recipe, 1.0, max_steps=4, val_every_steps=2, checkpoint_every_steps=2, val_episodes=40, lr=1e-9
    )
    assert (numbers["reached"], numbers["steps"], len(numbers["curve"])) == (0.0, 4, 2)


def test_the_share_of_time_that_ranges_cover():
    ranges = [(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6), (9.0, 20.0)]  # 0–3, 5–7, 9–20
    assert end_to_end.measure_covered(ranges, 0, 10) == pytest.approx((3 + 2 + 1) / 10)
    assert end_to_end.measure_covered(ranges, 2, 6) == pytest.approx((1 + 1) / 4)
    assert end_to_end.measure_covered([], 0, 1) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)), st.integers(0, 15))
def test_the_covered_share_is_that_of_the_seconds_counted_one_by_one(ranges, begin):
    end = begin + 13
    seconds = sum(any(start <= s and s + 1 <= stop for start, stop in ranges) for s in range(begin, end))
    assert end_to_end.measure_covered([tuple(r) for r in ranges], begin, end) == pytest.approx(seconds / 13)


def test_peak_memory_counts_what_is_held_now():
    import numpy as np

    before = measure_peak_mib()
    held = np.ones(64 << 17)  # 64 MiB
    assert held.size
    assert measure_peak_mib() >= before
    assert measure_peak_mib() > 64


def test_both_ways_of_memory_are_measured(monkeypatch):
    monkeypatch.setattr(reuse, "TURNS", 1)
    numbers = reuse.measure_reuse("Relation, 28 px, 10-way 1-shot")
    assert numbers["ratio"] == numbers["plain_ms"] / numbers["kept_ms"]
    assert min(numbers["plain_ms"], numbers["kept_ms"]) > 1
    assert min(numbers["plain_mib"], numbers["kept_mib"]) > 100


def test_each_section_is_printed_and_written_before_the_next_begins(monkeypatch, tmp_path, capsys):
    file, printed, written = tmp_path / "numbers.json", [], []

    def measured(section, *options):
        printed.append(capsys.readouterr().out)
        written.append(json.loads(file.read_text()) if file.exists() else {})
        return {f"time of {section}": {"s": 2.5}}

    monkeypatch.setattr(benchmarks, "measure", measured)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--only", "[heads, maml]", "--json", str(file)])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "benchmark.py"), run_name="__main__")
    assert printed == ["[heads]\n", "time of heads  s 2.5\n[maml]\n"]
    assert written == [{}, {"time of heads": {"s": 2.5}}]
    assert json.loads(file.read_text()).keys() == {"time of heads", "time of maml"}
    assert capsys.readouterr().out == "time of maml  s 2.5\n"


def test_both_precisions_are_measured(monkeypatch):
    monkeypatch.setattr(arithmetic, "REPEATS", 1)
    monkeypatch.setattr(arithmetic, "TRAINED", {"Relation": ("relation", "conv4-relation", (1, 28), 2, 1, 1)})
    monkeypatch.setattr(arithmetic, "EMBEDDED", {"Conv-4": ("conv4", (1, 28), 8)})
    monkeypatch.setattr(arithmetic, "draw_omniglot_noise", lambda: reuse.draw_noise(1, 28, 5, 1, 1))
    before, precisions = torch.get_num_threads(), []
    autocast = arithmetic.autocast
    monkeypatch.setattr(arithmetic, "autocast", lambda *given: precisions.append(given[0]) or autocast(*given))
    rows = arithmetic.measure_precisions()
    assert len(rows) == 3
    assert precisions == ["float32", "bfloat16"] * 4  # of each kind of step one warms up
    assert all(row["ratio"] == pytest.approx(row["float32_ms"] / row["bfloat16_ms"]) for row in rows.values())
    assert torch.get_num_threads() == before


def test_what_trust_adds_is_told_apart(monkeypatch):
    """All runs work, on conv4 and two queries, and the shares are worked out by hand."""
    seconds = {"fit": 2.0, "fit_refusing": 3.0, "suspect": 0.5, "predict": 4.0, "predict_refusing": 5.0}
    seconds |= {"predict_sets": 4.4}
    ran = []

    def measure(runs, repeats, clock):
        for name, run in runs.items():
            run()
            ran.append(name)
        return seconds

    monkeypatch.setattr(estimator, "measure_in_turns", measure)
    monkeypatch.setattr(estimator, "N_QUERY", 2)
    options = {"backbone": "conv4", "pretrained": False, "size_px": 28, "precision": "float32"}
    found = estimator.measure_trust(**options)
    assert ran == list(seconds)
    assert found == pytest.approx(
        {
            "fit_cpu_s": 2, "predict_cpu_s": 4, "a_threshold_adds_to_fit": 0.5, "suspects_add_to_fit": 0.25,
            "a_threshold_adds_to_predict": 0.25, "sets_add_to_predict": 0.1,
        }
    )  # fmt: skip


def burn(seconds):
    """Use so many seconds of this thread's CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_clock_stands_while_something_else_is_called():
    clock = tensorboard.Clock()
    other = clock.count(lambda: burn(0.4), runs=False)

    def write():
        burn(0.1)
        other()
        burn(0.1)

    clock.count(write, runs=True)()
    burn(0.4)
    assert 0.2 <= clock.seconds < 0.3


def test_what_tensorboard_costs_is_what_its_calls_take(recipe, monkeypatch, capsys):
    clock, ran = tensorboard.Clock(), []

    def watched(function):
        return lambda *a: (ran.append((function.__name__, clock.runs)), burn(0.5), function(*a))[-1]

    monkeypatch.setattr(tensorboard, "Clock", lambda: clock)
    monkeypatch.setattr(tensorboard, "load_split", end_to_end.load_split)
    monkeypatch.setattr(tensorboard.Tracker, "write_options", watched(tensorboard.Tracker.write_options))
    evaluate = watched(tensorboard.Validation.evaluate)
    monkeypatch.setattr(tensorboard.Validation, "evaluate", evaluate)
    tensorboard.print_costs(str(recipe), max_steps=4, val_episodes=40, val_every_steps=2, checkpoint_every_steps=2)
    assert ran == [("write_options", True), *3 * [("evaluate", False)]]  # the last of them within a report
    costs = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.5 <= clock.seconds <= costs["tensorboard_cpu_s"] <= costs["cpu_s"] - 1.5
    assert costs["share"] == costs["tensorboard_cpu_s"] / costs["cpu_s"]
    assert costs["steps"] == 4
    assert costs["mb"] > 0
    assert tensorboard.Validation.evaluate is evaluate  # nothing stays replaced
