"""Measures what a training's TensorBoard costs: CPU time inside the calls that write it, in a process of its own."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fewshot import cli
from fewshot.config import ExperimentConfig
from fewshot.experiments.build import build_method, load_split
from fewshot.training.tracking import AnswersWatch, Tracker
from fewshot.training.train import train
from fewshot.training.validation import Validation

# What belongs to TensorBoard, but for the validation that such a call runs: it would run without TensorBoard too.
WRITES: list[tuple[type, list[str]]] = [
    (Tracker, ["__init__", "write_scalars", "write_validation", "write_options", "write_result", "close"]),
    (Validation, ["report", "write_gallery"]),
    (AnswersWatch, ["__call__"]),
]
OTHER: list[tuple[type, list[str]]] = [(Validation, ["evaluate"])]


class Clock:
    """Sums the CPU seconds of this thread while it runs."""

    def __init__(self) -> None:
        self.seconds, self.runs, self.since = 0.0, False, 0.0

    def switch(self, runs: bool) -> None:
        """Start or stop."""
        now = time.thread_time()
        if self.runs:
            self.seconds += now - self.since
        self.runs, self.since = runs, now

    def count(self, function: Callable[..., Any], runs: bool) -> Callable[..., Any]:
        """Wrap a function, so that this clock runs (or, without `runs`, stands) during its calls."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            before = self.runs
            self.switch(runs)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return counted


@contextmanager
def clocked() -> Iterator[Clock]:
    """Within the block, the clock that is yielded runs while a training writes TensorBoard."""
    clock = Clock()
    with ExitStack() as stack:
        for places, runs in ((WRITES, True), (OTHER, False)):
            for owner, names in places:
                for name in names:
                    stack.enter_context(patch.object(owner, name, clock.count(getattr(owner, name), runs)))
        yield clock


def measure_tensorboard(recipe: Path) -> dict[str, float]:
    """Train by `recipe` in a process of one thread, and measure what of its CPU time TensorBoard takes.

    Returns:
        `cpu_s`, of the training without loading; `tensorboard_cpu_s`, inside the calls that write plus all that other
        threads take (one of them writes events): an upper bound; its `share`; `steps`; `mb` of events and projector.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = f"from fewshot.reproduction.benchmarks import tensorboard; tensorboard.print_costs({str(recipe)!r})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_costs(recipe: str, **changes: Any) -> None:
    """Train in this process, and print the costs as JSON."""
    config = replace(cli.parse(ExperimentConfig, "", ["--config", recipe]), **changes)
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    method = build_method(config, train_set.image_shape)
    with tempfile.TemporaryDirectory(prefix="fewshot-") as place, clocked() as clock:
        before, own = time.process_time(), time.thread_time()
        result = train(method, train_set, val_set, replace(config, run_dir=str(Path(place) / "run")))
        whole, own = time.process_time() - before, time.thread_time() - own
        shown = [*Path(place).rglob("events.out.tfevents.*"), *Path(place).rglob("projector/**/*")]
        mb = sum(path.stat().st_size for path in shown if path.is_file()) / 1e6
    spent = clock.seconds + whole - own
    print(json.dumps({
        "cpu_s": whole, "tensorboard_cpu_s": spent, "share": spent / whole, "steps": result.steps, "mb": mb,
    }))  # fmt: skip
