"""The stream of training data, episodes or plain batches, which does not depend on the number of processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch

from fewshot.config import PretrainConfig, TrainConfig, TrainingOptions
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.images.augment import make_augmentation
from fewshot.runtime import processes, seeding
from fewshot.sampling.batches import Batch, BatchSampler
from fewshot.sampling.episodes import Episode, EpisodeSampler, EpisodeSpec, LabelledData

ON_DEVICE_BYTES = 8 << 30  # image sets up to this size are copied to an accelerator whole


class Stream(ABC):
    """An endless sequence of training items (episodes or images) from `data`, images or features.

    Step s uses items [s * per_step, (s + 1) * per_step) of the sequence. They are divided in order among
    `accumulate_steps` passes, and within a pass among the processes, so the items of a step depend on neither number.
    Augmentation depends on the seed and the index of an item. `unit` is the word for items in messages; `size_option`
    is the name of the option that says how many items make a step.
    """

    unit: str
    size_option: str

    def __init__(self, data: LabelledData, config: TrainingOptions, device: torch.device) -> None:
        self.n_passes, self.n_processes = config.accumulate_steps, processes.world_size()
        self.per_step = getattr(config, self.size_option)
        if self.per_step % (self.n_passes * self.n_processes):
            raise ConfigError(
                f"{self.size_option}={self.per_step} must be divisible by {self.n_processes} processes "
                f"x accumulate_steps={self.n_passes}"
            )
        self.seed, self.device = config.seed, device
        self.augment = make_augmentation(config.augmentation)
        if isinstance(data, ImageSet) and device.type != "cpu" and data.images.numel() <= ON_DEVICE_BYTES:
            data = data.to(device)
        self.data = data

    def iterate_passes(self, step: int) -> Iterator[Episode | Batch]:
        """Yield this process's share of each pass of a step, with images or features."""
        in_pass = self.per_step // self.n_passes  # over all processes
        share = in_pass // self.n_processes
        for number in range(self.n_passes):
            yield self._make_items(step * self.per_step + number * in_pass + processes.rank() * share, share)

    @abstractmethod
    def _make_items(self, first: int, count: int) -> Episode | Batch:
        """Make items first .. first + count - 1, with augmented images, on the device."""


class EpisodeStream(Stream):
    """Training episodes; the augmentation of an episode depends on the seed and its index."""

    unit, size_option = "episodes", "episodes_per_step"

    def __init__(self, data: LabelledData, config: TrainConfig, device: torch.device) -> None:
        super().__init__(data, config, device)
        if self.augment.changes and not isinstance(data, ImageSet):
            raise ConfigError(f"augmentation changes images, but {data} holds features")
        spec = EpisodeSpec(config.train_n_way, config.train_n_shot, config.train_n_query, config.train_disjoint_groups)
        self.sampler = EpisodeSampler(self.data, spec, seeding.derive(config.seed, "training episodes"))

    def _make_items(self, first: int, count: int) -> Episode:
        episode = self.sampler.batch(first, count).fill(self.data).to(self.device)
        if not self.augment.changes:
            return episode
        n_support = episode.support.shape[1]
        images = torch.cat([episode.support, episode.query], 1)  # (B, n_support + n_query, C, H, W)
        generators = (seeding.generator(self.seed, "augmentation", first + b) for b in range(count))
        draws = torch.cat([self.augment.draw(images.shape[1], generator) for generator in generators])
        changed = self.augment.apply(images.flatten(0, 1), draws).view_as(images)
        return replace(episode, support=changed[:, :n_support], query=changed[:, n_support:])


class BatchStream(Stream):
    """Batches of labelled training images, epoch after epoch."""

    unit, size_option = "images", "batch_size"

    def __init__(self, data: LabelledData, config: PretrainConfig, device: torch.device) -> None:
        super().__init__(data, config, device)
        self.sampler = BatchSampler(self.data, seeding.derive(config.seed, "training batches"))

    def _make_items(self, first: int, count: int) -> Batch:
        batch = self.sampler.batch(first, count).fill(self.data).to(self.device)
        if not self.augment.changes:
            return batch
        step, before = divmod(first, self.per_step)
        generator = seeding.generator(self.seed, "augmentation", step)
        draws = self.augment.draw(before + count, generator)[before:]  # also those before, so that passes do not matter
        return replace(batch, images=self.augment.apply(batch.images, draws))


def make_stream(data: LabelledData, config: TrainingOptions, device: torch.device) -> Stream:
    """Make the training stream of `data`: plain batches for a `PretrainConfig`, else episodes."""
    stream = BatchStream if isinstance(config, PretrainConfig) else EpisodeStream
    return stream(data, config, device)


def draws_plain_episodes(config: TrainingOptions) -> bool:
    """Whether training uses episodes without augmentation, so that features can replace images."""
    episodic = isinstance(config, TrainConfig) and config.max_steps > 0
    return episodic and not make_augmentation(config.augmentation).changes
