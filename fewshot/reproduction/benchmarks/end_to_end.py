"""Measures how long `train` takes until validation reaches an accuracy, and how busy the GPU is."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fewshot import cli
from fewshot.config import ExperimentConfig
from fewshot.datasets import ImageSet
from fewshot.experiments.build import build_method, load_split
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.runtime.memory import measure_peak_mib
from fewshot.training.run_folder import RunFolder
from fewshot.training.train import train

# The number of steps is not known beforehand, so the learning rate is halved after a fixed period, as in Snell et al.'s
# code (every 2,000 episodes), only sooner. After `max_steps` it would be too small to reach the target.
SCHEDULE = {"schedule": "halve", "lr_period_steps": 500, "max_steps": 4000}
VALIDATION = {"val_n_way": 5, "val_n_shot": 1, "val_episodes": 400, "val_every_steps": 100}
BUSY_STEPS, WATCHED = 100, (0.4, 0.8)  # steps on a GPU, and the profiled share of them, without start and saving


def measure_time_to_accuracy(recipe: Path, target: float, **changes: Any) -> dict[str, Any]:
    """Train by `recipe`, with 5-way 1-shot validation, until its mean reaches `target`, a fraction.

    `curve`: step, seconds, mean and half-width of the 95% interval of each validation; seconds are of training and
    validation. `reached` is 0 where training ended before. The first step's start-up counts, loading data does not.
    """
    config = replace(
        cli.parse(ExperimentConfig, "", ["--config", str(recipe)]),
        **{"stop_at_accuracy": target, "checkpoint_every_steps": VALIDATION["val_every_steps"], **SCHEDULE,
           **VALIDATION, **changes},
    )  # fmt: skip
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    method = build_method(config, train_set.image_shape)
    with tempfile.TemporaryDirectory(prefix="fewshot-") as folder:
        config = replace(config, run_dir=str(Path(folder) / "run"))
        result = train(method, train_set, val_set, config)
        curve = load_checkpoint(RunFolder(config.run_dir).last)["history"]
    step, seconds, mean, half = curve[-1]
    validation_seconds = result.validation.header.seconds * len(curve)
    training_seconds = seconds - validation_seconds
    images = config.episodes_per_step * config.train_n_way * (config.train_n_shot + config.train_n_query)
    numbers = {
        "target": target, "reached": float(mean >= target), "seconds": seconds, "steps": step, "accuracy": mean,
        "half_width_95": half, "steps/s": step / training_seconds, "images/s": step * images / training_seconds,
        "validation_share": validation_seconds / seconds, "peak_mib": measure_peak_mib(),
    }  # fmt: skip
    if torch.cuda.is_available():
        numbers["gpu_busy"] = measure_gpu_busy(config, train_set)
    return numbers | {"curve": curve}


def measure_gpu_busy(config: ExperimentConfig, train_set: ImageSet) -> float:
    """Measure the share of time that the GPU is busy in training without validation, in the middle of a short run."""
    config = replace(config, run_dir=None, max_steps=BUSY_STEPS, stop_at_accuracy=0.0)
    method = build_method(config, train_set.image_shape)
    train(method, train_set, None, config)  # warm-up: choosing kernels takes time once
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        train(method, train_set, None, config)
    ranges = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    ]
    first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
    return measure_covered(ranges, *(first + share * (last - first) for share in WATCHED))


def measure_covered(ranges: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Measure the share of [begin, end] that the ranges (start, end) cover."""
    total, at = 0.0, begin
    for start, stop in sorted(ranges):
        total += max(0.0, min(stop, end) - max(start, at))
        at = max(at, stop)
    return total / (end - begin)
