"""Compares the speed of float32 and bfloat16 on a CPU, in alternating steps."""

import copy
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch

from fewshot.backbones import create_backbone
from fewshot.datasets import ImageSet
from fewshot.evaluation.embed import embed
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks.maml import draw_omniglot_noise, make_method
from fewshot.reproduction.benchmarks.reuse import draw_noise
from fewshot.reproduction.benchmarks.timing import measure_in_turns
from fewshot.runtime import seeding
from fewshot.runtime.layout import choose_layout
from fewshot.runtime.precision import Precision, autocast
from fewshot.sampling.episodes import Episode

CPU = torch.device("cpu")
COMPARED: tuple[Precision, ...] = ("float32", "bfloat16")
REPEATS = 9
TRAINED = {  # method, backbone, (channels, side in pixels), ways, shots, queries a class
    "ProtoNet, Conv-4, 28 px, 60-way 1-shot": ("protonet", "conv4", (1, 28), 60, 1, 5),
    "ProtoNet, ResNet-12, 84 px, 5-way 1-shot": ("protonet", "resnet12", (3, 84), 5, 1, 8),
    "ProtoNet, EfficientNet-Lite0, 112 px, 5-way 1-shot": ("protonet", "efficientnet-lite0", (3, 112), 5, 1, 5),
    "Relation, 28 px, 10-way 1-shot": ("relation", "conv4-relation", (1, 28), 10, 1, 10),
}
EMBEDDED = {  # backbone, (channels, side in pixels), images
    "Conv-4, 28 px": ("conv4", (1, 28), 2000),
    "ResNet-12, 84 px": ("resnet12", (3, 84), 48),
    "EfficientNet-Lite0, 224 px": ("efficientnet-lite0", (3, 224), 16),
}


def measure_precisions() -> dict[str, dict[str, float]]:
    """Measure milliseconds of CPU time in float32 and in bfloat16, and their ratio: medians of alternating steps.

    CPU time of one thread, so that other work on the machine has little effect; random images; the memory format of
    weights is that of `train` and `embed`.
    """
    rows, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, (method, backbone, (channels, side_px), *episode) in TRAINED.items():
            made = _create(method, backbone, channels, side_px)
            rows[f"step of {name}"] = _compare_steps(made, draw_noise(channels, side_px, *episode))
        maml = make_method("maml", inner_steps=5, adapt_norm=True)
        rows["step of second-order MAML, Conv-4, 32 tasks, 5 inner steps"] = _compare_steps(maml, draw_omniglot_noise())
        for name, (backbone, (channels, side_px), n_images) in EMBEDDED.items():
            made = _create("protonet", backbone, channels, side_px)
            rows[f"embedding {n_images} images, {name}"] = _compare_embeddings(made, channels, side_px, n_images)
    finally:
        torch.set_num_threads(threads)
    return rows


def _create(method: str, backbone: str, channels: int, side_px: int) -> Method:
    with seeding.fork(0):
        return create_method(method, create_backbone(backbone, channels, side_px))


def _compare_steps(method: Method, episode: Episode) -> dict[str, float]:
    """Compare forward and backward passes of `method`, each precision with the memory format that training uses."""

    def step_in(precision: Precision, own: Method) -> Callable[[], None]:
        def step() -> None:
            with autocast(precision, CPU):
                loss = own.loss(episode)
            loss.backward()

        return step

    with ExitStack() as layouts:
        runs: dict[str, Callable[[], object]] = {}
        for precision in COMPARED:
            own = copy.deepcopy(method).train()
            layouts.enter_context(choose_layout(own, precision, CPU))
            runs[precision] = step_in(precision, own)
        return _take_turns(runs)


def _compare_embeddings(method: Method, channels: int, side_px: int, n_images: int) -> dict[str, float]:
    pixels = torch.randint(0, 256, (n_images, channels, side_px, side_px), dtype=torch.uint8)
    images = ImageSet(pixels, [0] * n_images, ["any"])
    return _take_turns({precision: partial(embed, method, images, precision=precision) for precision in COMPARED})


def _take_turns(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    seconds = measure_in_turns(runs, REPEATS, clock=time.process_time)
    milliseconds = {f"{precision}_ms": 1000 * value for precision, value in seconds.items()}
    return milliseconds | {"ratio": seconds["float32"] / seconds["bfloat16"]}
