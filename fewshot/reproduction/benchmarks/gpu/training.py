"""Whole trainings on a GPU: ProtoNet until it reaches an accuracy, and MAML's meta-gradient beside plain loops."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fewshot.reproduction.benchmarks import end_to_end, maml
from fewshot.reproduction.benchmarks.gpu.steps import Numbers, measure_milliseconds
from fewshot.runtime.precision import autocast
from fewshot.sampling.episodes import Episode

TARGET = 0.975


def measure_training(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Seconds of training and validation until ProtoNet reaches 97.5% on Omniglot's validation characters.

    Once as it is, once with `compile` (CUDA graphs).
    """
    recipes = Path(__file__).parents[4] / "scripts" / "recipes"
    changes = {"max_steps": 2, "val_episodes": 5, "val_every_steps": 2, "train_n_way": 5} if dry else {}
    recipe = recipes / ("glyphs" if dry else "omniglot") / "protonet.yaml"
    return {
        name: end_to_end.measure_time_to_accuracy(recipe, TARGET, compile=compiled, **changes)
        for name, compiled in (("eager", False), ("compiled", True))
    }


def measure_maml(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Milliseconds of a second-order meta-gradient of 32 tasks, 5-way 1-shot: ours, and loops over the tasks.

    The loops are one of `torch.autograd.grad` and, where it is installed, learn2learn's.
    """
    episode = maml.draw_omniglot_noise(device)
    if dry:
        few: dict[str, Any] = {name: x[:2] for name, x in vars(episode).items() if isinstance(x, torch.Tensor)}
        episode = replace(episode, **few)
    cases = {"1 inner step": 1, "5 inner steps": 1 if dry else 5}
    return {name: _measure_meta_gradient(n_steps, episode, device, dry) for name, n_steps in cases.items()}


def _measure_meta_gradient(inner_steps: int, episode: Episode, device: torch.device, dry: bool) -> Numbers:
    method = maml.make_method("maml", inner_steps, adapt_norm=True, transductive=True).to(device)
    methods = {"ours": method}
    if find_spec("learn2learn"):
        methods["learn2learn"] = maml.make_method("maml-learn2learn", inner_steps).to(device)
    numbers: Numbers = {}
    for name, one in methods.items():
        for precision in ("float32", "bfloat16"):

            def step(one=one, precision=precision) -> None:
                with autocast(precision, device):
                    loss = one.loss(episode)
                loss.backward()
                one.zero_grad()

            repeats = 10 if name == "ours" else 3
            numbers[f"{name}_{precision}_ms"] = measure_milliseconds(step, device, dry, repeats)
    loop, _ = maml.make_plain_loop(method, inner_steps)
    numbers["plain_loop_float32_ms"] = measure_milliseconds(lambda: loop(episode), device, dry, 3)
    best_loop = min(value for key, value in numbers.items() if not key.startswith("ours"))
    numbers["ratio"] = best_loop / min(numbers["ours_float32_ms"], numbers["ours_bfloat16_ms"])
    return numbers
