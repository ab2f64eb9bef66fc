"""Measures MAML: for a whole meta-batch, and by learn2learn's wrapper for one task after the other."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fewshot.backbones import create_backbone
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks.timing import measure_in_turns, measure_peak_mib
from fewshot.runtime import seeding
from fewshot.sampling.episodes import Episode

N_TASKS, N_WAY = 32, 5


def draw_omniglot_noise(device: torch.device | str = "cpu") -> Episode:
    """Draw a meta-batch of noise in Omniglot's shape, 5-way 1-shot with 1 query a class: 32 x 10 images of 28 px."""
    generator = seeding.generator(0, "benchmark maml")
    images = torch.randint(0, 256, (2, N_TASKS, N_WAY, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.arange(N_WAY).expand(N_TASKS, -1)
    return Episode(images[0], labels, images[1], labels, N_WAY, labels, unpadded=True).to(device)


def make_method(name: str, inner_steps: int, order: int = 2, backbone: str = "conv4", **options: object) -> Method:
    """Make MAML on a network of 64 filters with seeded weights."""
    with seeding.fork(0):
        network = create_backbone(backbone, 1, 28)
        return create_method(name, network, inner_steps=inner_steps, order=order, **options).train()


def make_plain_loop(method: Method, inner_steps: int) -> tuple[Callable[[Episode], Tensor], nn.Module]:
    """Make a function that computes the second-order meta-gradient one task at a time by `torch.autograd.grad`.

    Returns the function, from a meta-batch of 1-shot tasks to the mean loss of the queries, and the network, a copy
    of the method's, whose gradients it sets. All weights are adapted, and batch norm uses batch statistics.
    """
    network = copy.deepcopy(nn.Sequential(method.backbone, method.classifier)).train()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    weights = dict(network.named_parameters())

    def run(episode: Episode) -> Tensor:
        network.zero_grad()
        losses = []
        for images, labels, queries, wanted in zip(
            episode.support, episode.support_labels, episode.query, episode.query_labels, strict=True
        ):
            adapted = weights
            for _ in range(inner_steps):
                loss = F.cross_entropy(functional_call(network, adapted, images), labels, reduction="sum")
                slopes = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
                rate = method.inner_lr
                adapted = {name: w - rate * g for (name, w), g in zip(adapted.items(), slopes, strict=True)}
            losses.append(F.cross_entropy(functional_call(network, adapted, queries), wanted))
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss.detach()

    return run, network


def measure_speed(
    inner_steps: int, backbone: str = "conv4", repeats: int = 5, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Measure the seconds of a second-order meta-gradient, medians of alternating runs, and the ratios to learn2learn.

    All weights are adapted, and queries are normalised by their own batch statistics, as in learn2learn. Both run in
    float32 and under bfloat16 autocast; ours is compared with the faster one of learn2learn.
    """
    episode = draw_omniglot_noise(device)
    ours = make_method("maml", inner_steps, backbone=backbone, adapt_norm=True, transductive=True).to(device)
    theirs = make_method("maml-learn2learn", inner_steps, backbone=backbone).to(device)

    def step(method: Method, half: bool) -> Callable[[], float]:
        def run() -> float:
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
                loss = method.loss(episode)
            loss.backward()
            return float(loss.detach())  # waits for a GPU

        return run

    runs = {
        "ours": step(ours, False), "ours_bf16": step(ours, True),
        "learn2learn": step(theirs, False), "learn2learn_bf16": step(theirs, True),
    }  # fmt: skip
    seconds = measure_in_turns(runs, repeats)
    best = min(seconds["learn2learn"], seconds["learn2learn_bf16"])
    return seconds | {
        "ratio_float32": seconds["learn2learn"] / seconds["ours"],
        "ratio_best": best / min(seconds["ours"], seconds["ours_bf16"]),
    }


def measure_memory(inner_steps: int = 5) -> dict[str, float]:
    """Peak MiB, above the imports, of one meta-gradient of 32 tasks: by order, all tasks at once and in groups."""
    base = measure_peak_mib("import fewshot.reproduction.benchmarks.maml")
    cases = {
        "order_1": "order=1, tasks_at_once=32",
        "order_2": "order=2, tasks_at_once=32",
        "order_2_groups": "order=2",
    }
    return {
        name: measure_peak_mib(
            "from fewshot.reproduction.benchmarks.maml import draw_omniglot_noise, make_method\n"
            f"make_method('maml', {inner_steps}, transductive=True, {options}).loss(draw_omniglot_noise()).backward()"
        )
        - base
        for name, options in cases.items()
    }
