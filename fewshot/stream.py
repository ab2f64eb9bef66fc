"""The stream of training episodes: the same on one process as on many."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from fewshot import parallel, seeding
from fewshot.augment import make_augmentation
from fewshot.config import TrainConfig
from fewshot.datasets import ImageSet
from fewshot.episodes import Episode, EpisodeSampler, EpisodeSpec
from fewshot.errors import ConfigError

ON_DEVICE_BYTES = 8 << 30  # image sets up to this size live on an accelerator whole


class EpisodeStream:
    """Step s takes episodes [s * episodes_per_step, (s + 1) * episodes_per_step) of the training set.

    They are dealt to `accumulate_steps` passes, and within a pass to the processes, in order; so what
    a step sees depends on neither. Augmentation of an episode depends on the seed and its index.
    """

    def __init__(self, train_set: ImageSet, config: TrainConfig, device: torch.device) -> None:
        self.n_passes, self.n_processes = config.accumulate_steps, parallel.world_size()
        if config.episodes_per_step % (self.n_passes * self.n_processes):
            raise ConfigError(
                f"episodes_per_step={config.episodes_per_step} must be divisible by {self.n_processes} processes "
                f"x accumulate_steps={self.n_passes}"
            )
        self.episodes_per_step, self.seed, self.device = config.episodes_per_step, config.seed, device
        self.augment = make_augmentation(config.augmentation)
        on_device = device.type != "cpu" and train_set.images.numel() <= ON_DEVICE_BYTES
        self.sampler = EpisodeSampler(
            train_set.to(device) if on_device else train_set,
            EpisodeSpec(config.train_n_way, config.train_n_shot, config.train_n_query, config.train_disjoint_groups),
            seeding.derive(config.seed, "training episodes"),
        )

    def passes(self, step: int) -> Iterator[Episode]:
        """This process's share of a step, a batch of episodes with uint8 images for each pass."""
        in_pass = self.episodes_per_step // self.n_passes  # over all processes
        share = in_pass // self.n_processes
        for number in range(self.n_passes):
            first = step * self.episodes_per_step + number * in_pass + parallel.rank() * share
            yield self._augmented(self.sampler.images(self.sampler.batch(first, share), self.device), first)

    def _augmented(self, episode: Episode, first: int) -> Episode:
        if not self.augment.changes:
            return episode
        n_support = episode.support.shape[1]
        images = torch.cat([episode.support, episode.query], 1)  # (B, n_support + n_query, C, H, W)
        generators = (seeding.generator(self.seed, "augmentation", first + b) for b in range(len(episode)))
        changed = torch.stack([self.augment(*pair) for pair in zip(images, generators, strict=True)])
        return replace(episode, support=changed[:, :n_support], query=changed[:, n_support:])
