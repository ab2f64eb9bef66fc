"""What training, evaluation and the heads cost on one GPU: parts that run one after the other, each in its own process.

On a machine without a GPU, or with `dry`, the same functions run on toy sizes: they are tried, not timed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fewshot.backbones import create_backbone
from fewshot.config import TrainConfig
from fewshot.datasets import load_dataset
from fewshot.evaluation.evaluate import evaluate
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks import end_to_end, heads, maml
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime import seeding
from fewshot.runtime.files import write_whole
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import autocast
from fewshot.sampling.episodes import Episode, EpisodeSpec
from fewshot.training.optimization import make_optimizer

Numbers = dict[str, Any]
Part = Callable[[torch.device, Path, bool], Numbers]

SECONDS = {"device": 30, "steps": 90, "maml": 90, "evaluation": 60, "heads": 60, "end_to_end": 120}  # at most, each
DRY_SECONDS = 600  # a busy CPU may take long
RESULT = "gpu.json"
# backbone, episodes in a step, ways, shots, queries of each class, channels, side
STEPS = {
    "ProtoNet, Conv-4, 60-way 1-shot, 28 px": ("conv4", 1, 60, 1, 5, 1, 28),
    "ProtoNet, Conv-4, 20-way 5-shot, 84 px": ("conv4", 1, 20, 5, 10, 3, 84),
    "ProtoNet, Conv-4, 20-way 5-shot, 84 px, 4 episodes": ("conv4", 4, 20, 5, 10, 3, 84),
    "ProtoNet, ResNet-12, 5-way 5-shot, 84 px, 4 episodes": ("resnet12", 4, 5, 5, 15, 3, 84),
}
PROFILED = "ProtoNet, Conv-4, 20-way 5-shot, 84 px"
FEATURE_METHODS = ("protonet", "matching", "meta-baseline", "r2d2", "simpleshot", "nearest")


def measure(out: Path, parts: Sequence[str], dry: bool) -> list[str]:
    """Run each part in a process of its own and write `out/gpu.json` after each; returns what failed, a line each."""
    out.mkdir(parents=True, exist_ok=True)
    numbers: Numbers = {}
    failures = []
    for part in parts:
        limit = DRY_SECONDS if dry else SECONDS[part]
        command = [sys.executable, "-m", "fewshot.reproduction.benchmarks.gpu", part, str(out), str(int(dry))]
        started = time.perf_counter()
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=limit)
            problem = "" if ran.returncode == 0 else (ran.stderr.strip().splitlines() or ["no message"])[-1]
        except subprocess.TimeoutExpired:
            problem = f"not done after {limit} s"
        numbers[part] = {"failed": problem}
        if not problem:
            result = out / f"{part}.json"
            numbers[part] = json.loads(result.read_text())
            result.unlink()
        numbers[part]["seconds"] = round(time.perf_counter() - started, 1)
        write_whole(out / RESULT, json.dumps(numbers, indent=2) + "\n")
        failures += [f"{part}: {problem}"] if problem else []
        print(f"{part}: {problem or 'done'} ({numbers[part]['seconds']} s)", flush=True)
    return failures


def describe_device(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Name and memory of the card, versions."""
    on_gpu = device.type == "cuda"
    return {
        "name": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "memory_mib": torch.cuda.get_device_properties(device).total_memory >> 20 if on_gpu else 0,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }


def measure_steps(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Milliseconds of a training step and of its forward pass alone, images/s, peak memory; a profile of one."""
    return {name: _measure_step(device, out, dry, name, *case) for name, case in STEPS.items()}


def _measure_step(device: torch.device, out: Path, dry: bool, name: str, backbone: str, *shape: int) -> Numbers:
    count, way, shot, query, channels, side_px = (1, 2, 1, 1, *shape[4:]) if dry else shape
    episode = draw_noise(count, way, shot, query, channels, side_px).to(device)
    with seeding.fork(0):
        method = create_method("protonet", create_backbone(backbone, channels, side_px)).to(device).train()
    optimizer = make_optimizer(method, TrainConfig())

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
        if name == PROFILED:
            _write_profile(step, device, out / "profile.txt")
    n_images = count * way * (shot + query)
    return {
        "step_ms": step_ms, "forward_ms": forward_ms, "images_per_s": 1000 * n_images / step_ms,
        "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0,
    }  # fmt: skip


def _write_profile(step: Callable[[], None], device: torch.device, file: Path) -> None:
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *on_gpu], acc_events=True) as profiler:
        for _ in range(3):
            step()
        wait(device)
    by_time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=by_time, row_limit=30, max_name_column_width=70)
    write_whole(file, f"{table}\n")


def measure_maml(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Milliseconds of a second-order meta-gradient of 32 tasks, 5-way 1-shot: ours, and a loop over the tasks."""
    episode = maml.draw_omniglot_noise(device)
    if dry:
        episode = Episode(*(x[:2] if isinstance(x, torch.Tensor) else x for x in vars(episode).values()))
    numbers: Numbers = {}
    for inner_steps in (1,) if dry else (1, 5):
        method = maml.make_method("maml", inner_steps, adapt_norm=True, transductive=True).to(device)
        for precision in ("float32", "bfloat16"):

            def ours(method: Method = method, precision: str = precision) -> None:
                with autocast(precision, device):
                    loss = method.loss(episode)
                loss.backward()
                method.zero_grad()

            numbers[f"ours, {inner_steps} inner steps, {precision}"] = measure_milliseconds(
                ours, device, dry, repeats=10
            )
        loop, _ = maml.make_plain_loop(method, inner_steps)
        name = f"plain loop, {inner_steps} inner steps, float32"
        numbers[name] = measure_milliseconds(lambda loop=loop: loop(episode), device, dry, repeats=3)
    return numbers


def measure_evaluation(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Episodes/s of each method that works from features, 5-way 5-shot 15-query, embedding included."""
    test_set, n_episodes = load_dataset("glyphs", "test"), 20 if dry else 10_000
    rates: Numbers = {}
    for name in FEATURE_METHODS:
        with seeding.fork(0):
            method = create_method(name, create_backbone("conv4", 1, 28)).to(device)
        if method.needs_base_features:
            width = method.backbone.feature_dim
            method.learn_base_classes(torch.ones(2, width, device=device), torch.arange(2, device=device))

        def run(method: Method = method) -> None:
            evaluate(method, test_set, EpisodeSpec(5, 5, 15), n_episodes, precision="auto")

        rates[name] = n_episodes / measure_median_seconds(run, 1 if dry else 3, warmup=0 if dry else 1)
    return rates


def measure_heads(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Milliseconds an episode of heads that are fitted, 5-way 5-shot, 512 features."""
    few = {"n_ours": 10} if dry else {}
    faithful = heads.measure_faithful_sgd(n_literal=1, device=device, **few)
    logistic = heads.measure_logistic(n_sklearn=2 if dry else 20, device=device, **few)
    return {"Baseline, the authors' SGD": faithful, "logistic regression": logistic}


def measure_end_to_end(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Seconds of training and validation until ProtoNet reaches 97.5% on Omniglot's validation characters."""
    recipes = Path(__file__).parents[3] / "scripts" / "recipes"
    if dry:
        changes = {"max_steps": 2, "val_episodes": 5, "val_every_steps": 2, "train_n_way": 5}
        return end_to_end.measure_time_to_accuracy(recipes / "glyphs" / "protonet.yaml", 0.975, **changes)
    return end_to_end.measure_time_to_accuracy(recipes / "omniglot" / "protonet.yaml", 0.975)


PARTS: dict[str, Part] = {
    "device": describe_device,
    "steps": measure_steps,
    "maml": measure_maml,
    "evaluation": measure_evaluation,
    "heads": measure_heads,
    "end_to_end": measure_end_to_end,
}


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
    """Median wall time of `run`, to its end on the device."""

    def whole() -> None:
        run()
        wait(device)

    return 1000 * (
        measure_median_seconds(whole, 1, warmup=0) if dry else measure_median_seconds(whole, repeats, warmup=5)
    )


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_part(part: str, out: Path, dry: bool) -> None:
    """Measure one part on the GPU, or on the CPU if `dry`, and write its numbers to `out/<part>.json`."""
    numbers = PARTS[part](torch.device("cpu" if dry else "cuda"), out, dry)
    write_whole(out / f"{part}.json", json.dumps(numbers))


if __name__ == "__main__":
    run_part(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1")
