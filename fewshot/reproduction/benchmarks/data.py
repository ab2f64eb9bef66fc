"""Measures how fast episodes are drawn and prepared."""

import torch

from fewshot.config import TrainConfig
from fewshot.datasets import ImageSet
from fewshot.methods import Method
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime.layout import channels_last
from fewshot.runtime.precision import Precision, autocast, switch_tf32
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec
from fewshot.sampling.streams import EpisodeStream
from fewshot.training.optimization import make_optimizer


def measure_drawing(imageset: ImageSet, spec: EpisodeSpec) -> float:
    """Index episodes drawn per second, in batches of 1,000, on one core (numpy)."""
    sampler = EpisodeSampler(imageset, spec)
    return 1000 / measure_median_seconds(lambda: sampler.batch(0, 1000), 10)


def measure_data_path(
    method: Method, train_set: ImageSet, config: TrainConfig, precision: Precision
) -> dict[str, float]:
    """Milliseconds of the data path (draw, gather, augment, normalise) and of a whole training step."""
    device = next(method.parameters()).device
    stream, optimizer = EpisodeStream(train_set, config, device), make_optimizer(method, config)

    def data() -> None:
        for episode in stream.iterate_passes(0):
            method.backbone.prepare(torch.cat([episode.support, episode.query], 1).flatten(0, 1))

    def step() -> None:
        for episode in stream.iterate_passes(0):
            with autocast(precision, device):
                loss = method.loss(episode)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with channels_last(method), switch_tf32(precision, device):  # as `train` does
        data_ms, step_ms = 1000 * measure_median_seconds(data, 15), 1000 * measure_median_seconds(step, 15, warmup=3)
    return {"data_ms": data_ms, "step_ms": step_ms, "share": data_ms / step_ms}
