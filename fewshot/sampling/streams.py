"""The stream of training data, episodes or plain batches: the same on one process as on many."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fewshot.config import FitConfig, PretrainConfig, TrainConfig
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.images.augment import make_augmentation
from fewshot.runtime import processes, seeding
from fewshot.sampling.batches import Batch, BatchSampler
from fewshot.sampling.episodes import Episode, EpisodeSampler, EpisodeSpec

ON_DEVICE_BYTES = 8 << 30  # image sets up to this size live on an accelerator whole


class Stream(ABC):
    """Step s takes items [s * per_step, (s + 1) * per_step) of an endless sequence of the training set's.

    They are dealt to `accumulate_steps` passes, and within a pass to the processes, in order; so what
    a step sees depends on neither. Augmentation depends on the seed and an item's index.
    `unit`: what the items are called; `size_option`: the option that says how many make a step.
    """

    unit: str
    size_option: str

    def __init__(self, train_set: ImageSet, config: FitConfig, device: torch.device) -> None:
        self.n_passes, self.n_processes = config.accumulate_steps, processes.world_size()
        self.per_step = getattr(config, self.size_option)
        if self.per_step % (self.n_passes * self.n_processes):
            raise ConfigError(
                f"{self.size_option}={self.per_step} must be divisible by {self.n_processes} processes "
                f"x accumulate_steps={self.n_passes}"
            )
        self.seed, self.device = config.seed, device
        self.augment = make_augmentation(config.augmentation)
        on_device = device.type != "cpu" and train_set.images.numel() <= ON_DEVICE_BYTES
        self.imageset = train_set.to(device) if on_device else train_set

    def passes(self, step: int) -> Iterator[Episode | Batch]:
        """This process's share of a step, with uint8 images (or features), for each pass."""
        in_pass = self.per_step // self.n_passes  # over all processes
        share = in_pass // self.n_processes
        for number in range(self.n_passes):
            yield self._items(step * self.per_step + number * in_pass + processes.rank() * share, share)

    @abstractmethod
    def _items(self, first: int, count: int) -> Episode | Batch:
        """Items first .. first + count - 1 with augmented images, on the device."""


class EpisodeStream(Stream):
    """Episodes of the training set; augmentation of one depends on the seed and its index.

    `features` (len(train_set), …): what the episodes carry instead of images.
    """

    unit, size_option = "episodes", "episodes_per_step"

    def __init__(
        self, train_set: ImageSet, config: TrainConfig, device: torch.device, features: Tensor | None = None
    ) -> None:
        super().__init__(train_set, config, device)
        self.features = features
        spec = EpisodeSpec(config.train_n_way, config.train_n_shot, config.train_n_query, config.train_disjoint_groups)
        self.sampler = EpisodeSampler(self.imageset, spec, seeding.derive(config.seed, "training episodes"))

    def _items(self, first: int, count: int) -> Episode:
        rows = self.sampler.batch(first, count)
        if self.features is not None:
            return rows.with_values(self.features).to(self.device)
        episode = self.sampler.images(rows, self.device)
        if not self.augment.changes:
            return episode
        n_support = episode.support.shape[1]
        images = torch.cat([episode.support, episode.query], 1)  # (B, n_support + n_query, C, H, W)
        generators = (seeding.generator(self.seed, "augmentation", first + b) for b in range(count))
        draws = torch.cat([self.augment.draw(images.shape[1], generator) for generator in generators])
        changed = self.augment.apply(images.flatten(0, 1), draws).view_as(images)
        return replace(episode, support=changed[:, :n_support], query=changed[:, n_support:])


class BatchStream(Stream):
    """Labelled images of the training set, epoch after epoch."""

    unit, size_option = "images", "batch_size"

    def __init__(self, train_set: ImageSet, config: PretrainConfig, device: torch.device) -> None:
        super().__init__(train_set, config, device)
        self.sampler = BatchSampler(self.imageset, seeding.derive(config.seed, "training batches"))

    def _items(self, first: int, count: int) -> Batch:
        batch = self.sampler.images(self.sampler.batch(first, count), self.device)
        if not self.augment.changes:
            return batch
        step, before = divmod(first, self.per_step)
        generator = seeding.generator(self.seed, "augmentation", step)
        draws = self.augment.draw(before + count, generator)[before:]  # as if all the step's were changed in one go
        return replace(batch, images=self.augment.apply(batch.images, draws))


def make_stream(train_set: ImageSet, config: FitConfig, device: torch.device, features: Tensor | None = None) -> Stream:
    """The stream that `config` describes: plain batches for a `PretrainConfig`, else episodes (see `EpisodeStream`)."""
    if isinstance(config, PretrainConfig):
        return BatchStream(train_set, config, device)
    return EpisodeStream(train_set, config, device, features)


def draws_plain_episodes(config: FitConfig) -> bool:
    """Whether there are training episodes, of images that are not augmented: features may take their place."""
    episodic = isinstance(config, TrainConfig) and config.max_steps > 0
    return episodic and not make_augmentation(config.augmentation).changes
