"""What a training step costs on a GPU, beside a plain PyTorch step of the same network and the card's own limit."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fewshot.backbones import create_backbone
from fewshot.config import TrainConfig
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime import seeding
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import autocast
from fewshot.sampling.episodes import Episode
from fewshot.training.learner import Learner
from fewshot.training.optimization import make_optimizer
from fewshot.training.step import TrainingStep

Numbers = dict[str, Any]

# method, backbone, episodes in a step, ways, shots, queries of each class, channels, side
STEPS = {
    "ProtoNet, Conv-4, 60-way 1-shot, 28 px": ("protonet", "conv4", 1, 60, 1, 5, 1, 28),
    "ProtoNet, Conv-4, 20-way 5-shot, 84 px": ("protonet", "conv4", 1, 20, 5, 10, 3, 84),
    "ProtoNet, Conv-4, 20-way 5-shot, 84 px, 4 episodes": ("protonet", "conv4", 4, 20, 5, 10, 3, 84),
    "ProtoNet, ResNet-12, 5-way 5-shot, 84 px, 4 episodes": ("protonet", "resnet12", 4, 5, 5, 15, 3, 84),
    "Meta-Baseline, ResNet-12, 5-way 5-shot, 84 px, 4 episodes": ("meta-baseline", "resnet12", 4, 5, 5, 15, 3, 84),
}
PROFILED = "ProtoNet, Conv-4, 20-way 5-shot, 84 px"
COMPILED = (
    "ProtoNet, Conv-4, 60-way 1-shot, 28 px",
    "ProtoNet, Conv-4, 20-way 5-shot, 84 px",
    "ProtoNet, ResNet-12, 5-way 5-shot, 84 px, 4 episodes",
)
MATRIX, DRY_MATRIX = 8192, 64  # side of the matrices whose product tells the card's limit


def describe_device(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Name and memory of the card, versions, and how fast it multiplies large bfloat16 matrices, in TFLOP/s."""
    on_gpu = device.type == "cuda"
    side = DRY_MATRIX if dry else MATRIX
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return {
        "name": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "memory_mib": torch.cuda.get_device_properties(device).total_memory >> 20 if on_gpu else 0,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "bf16_tflops": 2 * side**3 / measure_milliseconds(lambda: a @ a, device, dry) / 1e9,
    }


def measure_steps(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Of each of `STEPS`: milliseconds, images/s and arithmetic of our step and of a plain one, peak memory.

    A profile of one of them is written to `out/profile.txt`.
    """
    return {name: _measure_step(device, out, dry, name) for name in STEPS}


def _measure_step(device: torch.device, out: Path, dry: bool, name: str) -> Numbers:
    episode, method = _draw_case(name, device, dry), _make_method(name, device)
    optimizer = make_optimizer(method.train(), TrainConfig())

    def forward() -> torch.Tensor:
        with autocast("auto", device):
            return method.loss(episode)

    def step() -> None:
        forward().backward()
        optimizer.step()
        optimizer.zero_grad()

    with channels_last(method):
        step_ms = measure_milliseconds(step, device, dry)
        with torch.no_grad():
            forward_ms = measure_milliseconds(forward, device, dry)
        with FlopCounterMode(display=False) as counter:
            step()
        if name == PROFILED:
            _write_profile(step, device, out / "profile.txt")
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    images = torch.cat([episode.support, episode.query], dim=1).flatten(0, 1)
    network, width = _make_method(name, device).backbone, find_feature_dim(method)
    assert network is not None
    plain_ms = measure_milliseconds(_make_plain_step(network, width, images, device), device, dry)
    return {
        "step_ms": step_ms, "forward_ms": forward_ms, "images_per_s": 1000 * len(images) / step_ms,
        "plain_step_ms": plain_ms, "plain_images_per_s": 1000 * len(images) / plain_ms,
        "tflops": counter.get_total_flops() / step_ms / 1e9, "peak_mib": peak,
    }  # fmt: skip


def _draw_case(name: str, device: torch.device, dry: bool) -> Episode:
    """Draw the episodes of one of `STEPS`."""
    *_, count, way, shot, query, channels, side_px = STEPS[name]
    sizes = (1, 2, 1, 1) if dry else (count, way, shot, query)
    return draw_noise(*sizes, channels, side_px).to(device)


def _make_method(name: str, device: torch.device) -> Method:
    """Make the method of one of `STEPS`, with initial weights that are always the same."""
    method, backbone, *_, channels, side_px = STEPS[name]
    with seeding.fork(0):
        return create_method(method, create_backbone(backbone, channels, side_px)).to(device)


def measure_compiled_steps(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Of the steps `COMPILED`: milliseconds of the whole optimizer step, eager and compiled, and seconds of compiling.

    Peak memory of each is in MiB. Compiled steps run as CUDA graphs.
    """
    from accelerate import Accelerator  # slow to import

    accelerator = Accelerator(cpu=device.type == "cpu")
    numbers: Numbers = {}
    for name in COMPILED:
        episode = _draw_case(name, device, dry)
        of_step: dict[str, float] = {"images": episode.support_labels.numel() + episode.query_labels.numel()}
        for kind, config in (("eager", TrainConfig()), ("compiled", TrainConfig(compile=True))):
            method = _make_method(name, device)
            step = TrainingStep(Learner(method, config), config, accelerator)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            with channels_last(method):
                started = time.perf_counter()
                for _ in range(1 if dry else 4):  # shapes, warm-up and recording of CUDA graphs
                    step.take([episode])
                wait_for_device(device)
                of_step[f"{kind}_first_s"] = time.perf_counter() - started
                of_step[f"{kind}_ms"] = measure_milliseconds(partial(step.take, [episode]), device, dry)
            if device.type == "cuda":
                of_step[f"{kind}_peak_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        numbers[name] = of_step
    return numbers


def _make_plain_step(network: nn.Module, width: int, images: torch.Tensor, device: torch.device) -> Callable[[], None]:
    """A step as a tutorial writes it: network and linear layer classify the images, Adam, our precision and layout."""
    model = nn.Sequential(network, nn.Flatten(), nn.Linear(width, 64)).to(device).train()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pixels = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(images), device=device) % 64

    def step() -> None:
        with autocast("auto", device):
            loss = F.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def find_feature_dim(method: Method) -> int:
    """The width of the features of a method's backbone."""
    assert method.backbone is not None
    width = method.backbone.feature_dim
    assert isinstance(width, int)
    return width


def _write_profile(step: Callable[[], None], device: torch.device, file: Path) -> None:
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu], acc_events=True) as profiler:
        for _ in range(3):
            step()
        wait_for_device(device)
    by_time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    file.write_text(profiler.key_averages().table(sort_by=by_time, row_limit=30, max_name_column_width=70) + "\n")


def draw_noise(count: int, way: int, shot: int, query: int, channels: int, side_px: int) -> Episode:
    """`count` episodes of images without meaning."""
    generator = seeding.generator(0, "benchmark steps")

    def images(n: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, n, channels, side_px, side_px), dtype=torch.uint8, generator=generator)

    def labels(n: int) -> torch.Tensor:
        return torch.arange(way).repeat_interleave(n).expand(count, -1).contiguous()

    classes = torch.arange(way).expand(count, -1)
    return Episode(images(way * shot), labels(shot), images(way * query), labels(query), way, classes)


def measure_milliseconds(run: Callable[[], object], device: torch.device, dry: bool, repeats: int = 30) -> float:
    """Median wall time of `run`, until the device has done its work."""

    def run_to_the_end() -> None:
        run()
        wait_for_device(device)

    n_repeats, n_warmup = (1, 0) if dry else (repeats, 5)
    return 1000 * measure_median_seconds(run_to_the_end, n_repeats, warmup=n_warmup)


def wait_for_device(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
