"""Measures how much faster a network trains if its depthwise convolutions stay in float32."""

import copy

import torch
from torch import nn

from fewshot.backbones import create_backbone
from fewshot.backbones.surgery.depthwise import restore_depthwise
from fewshot.reproduction.benchmarks.timing import measure_in_turns
from fewshot.runtime import seeding
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import autocast, resolve

IMAGES, SIDE, REPEATS = 32, 112, 7


def measure_depthwise() -> dict[str, float]:
    """Milliseconds of forward and backward on 32 random images of 112 px, EfficientNet-Lite0, precision "auto"."""
    device = torch.device("cpu")
    with seeding.fork(0):
        network = create_backbone("efficientnet-lite0", 3, SIDE).train()
        images = torch.rand(IMAGES, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    plain = copy.deepcopy(network)
    restore_depthwise(plain)

    def step(network: nn.Module) -> None:
        with autocast(resolve("auto", device), device):
            loss = network(images).float().square().mean()
        loss.backward()

    with channels_last(network), channels_last(plain):
        seconds = measure_in_turns({"plain": lambda: step(plain), "float32": lambda: step(network)}, REPEATS)
    milliseconds = {f"{name}_ms": 1000 * value for name, value in seconds.items()}
    return milliseconds | {"ratio": seconds["plain"] / seconds["float32"]}
