"""Compares training steps in processes that keep freed memory with steps in processes that return it."""

import os
import statistics
import subprocess
import sys

import torch

from fewshot.backbones import create_backbone
from fewshot.methods import create_method
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime import seeding
from fewshot.runtime.layout import channels_last
from fewshot.runtime.memory import measure_peak_mib, reuse_freed_memory
from fewshot.runtime.precision import autocast, resolve
from fewshot.sampling.episodes import Episode

STEPS = {  # method, backbone, (channels, side in pixels), ways, shots, queries a class
    "ProtoNet, Conv-4, 28 px, 60-way 1-shot": ("protonet", "conv4", (1, 28), 60, 1, 5),
    "ProtoNet, Conv-4, 32 px, 20-way 5-shot": ("protonet", "conv4", (3, 32), 20, 5, 15),
    "ProtoNet, Conv-4, 84 px, 10-way 4-shot": ("protonet", "conv4", (3, 84), 10, 4, 8),
    "ProtoNet, ResNet-12, 84 px, 5-way 1-shot": ("protonet", "resnet12", (3, 84), 5, 1, 8),
    "Relation, 28 px, 10-way 1-shot": ("relation", "conv4-relation", (1, 28), 10, 1, 10),
}
REPEATS, TURNS = 7, 3
OF_MEMORY = ("MALLOC_", "GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE")  # environment variables that set the allocator


def measure_reuse(name: str) -> dict[str, float]:
    """Measure milliseconds and peak MiB of a step of `STEPS` with memory returned and kept; medians over processes.

    One thread, precision "auto", random images.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(OF_MEMORY)}
    environment["OMP_NUM_THREADS"] = "1"
    measured: dict[str, list[list[float]]] = {"plain": [], "kept": []}
    for _ in range(TURNS):
        for how, rows in measured.items():
            code = f"from fewshot.reproduction.benchmarks import reuse; reuse.print_step({name!r}, {how == 'kept'})"
            output = subprocess.run(
                [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
            ).stdout
            rows.append([float(number) for number in output.split()])
    (plain_ms, plain_mib), (kept_ms, kept_mib) = (
        [statistics.median(column) for column in zip(*rows, strict=True)] for rows in measured.values()
    )
    return {"plain_ms": plain_ms, "kept_ms": kept_ms, "ratio": plain_ms / kept_ms, "plain_mib": plain_mib,
            "kept_mib": kept_mib}  # fmt: skip


def print_step(name: str, keep: bool) -> None:
    """Print the milliseconds of a training step in this process and its peak MiB on one line."""
    if keep:
        reuse_freed_memory()
    method_name, backbone, (channels, side), way, shot, query = STEPS[name]
    with seeding.fork(0):
        method = create_method(method_name, create_backbone(backbone, channels, side)).train()
        episode = draw_noise(channels, side, way, shot, query)
    optimizer, device = torch.optim.Adam(method.parameters()), torch.device("cpu")

    def step() -> None:
        optimizer.zero_grad()
        with autocast(resolve("auto", device), device):
            loss = method.loss(episode)
        loss.backward()
        optimizer.step()

    with channels_last(method):  # as `train` does
        milliseconds = 1000 * measure_median_seconds(step, REPEATS, warmup=2)
    print(milliseconds, measure_peak_mib())


def draw_noise(channels: int, side: int, way: int, shot: int, query: int) -> Episode:
    """An episode of random images."""

    def images(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(0, 256, (1, way * per_class, channels, side, side), dtype=torch.uint8)
        return pixels, torch.arange(way).repeat_interleave(per_class)[None]

    (support, support_labels), (queries, query_labels) = images(shot), images(query)
    return Episode(
        support=support, support_labels=support_labels, query=queries, query_labels=query_labels, n_way=way,
        classes=torch.arange(way)[None],
    )  # fmt: skip
