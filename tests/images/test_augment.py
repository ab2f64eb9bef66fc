"""Augmenting many episodes in one call equals augmenting each alone, bit for bit."""

from dataclasses import replace

import pytest
import torch

from fewshot import PretrainConfig, TrainConfig
from fewshot.images import augment
from fewshot.images.augment import Augmentation, make_augmentation
from fewshot.runtime import seeding
from fewshot.sampling.streams import make_stream

ALL = dict(rotation_degrees=20.0, shear_degrees=10.0, scale=0.2, shift=0.1, min_crop_area=0.5, flip=True, colour=0.3)
CPU = torch.device("cpu")


@pytest.mark.parametrize("limits", [ALL, {"rotation_degrees": 20.0}, {"colour": 0.3}, {"flip": True}])
def test_a_batch_of_episodes_is_augmented_as_one_by_one(toy_sets, limits):
    config = TrainConfig(train_n_way=4, train_n_shot=2, train_n_query=3, episodes_per_step=6, augmentation=limits)
    together = next(make_stream(toy_sets[0], config, CPU).iterate_passes(2))
    plain = next(make_stream(toy_sets[0], replace(config, augmentation={}), CPU).iterate_passes(2))
    for b in range(6):
        images = torch.cat([plain.support[b], plain.query[b]])  # an episode's images draw together
        alone = make_augmentation(limits)(images, seeding.generator(config.seed, "augmentation", 2 * 6 + b))
        assert torch.equal(together.support[b], alone[:8])
        assert torch.equal(together.query[b], alone[8:])
        assert not torch.equal(alone, images)


def test_the_share_of_a_plain_batch_is_augmented_as_in_the_whole(toy_sets):
    config = PretrainConfig(batch_size=24, augmentation=ALL)
    whole = next(make_stream(toy_sets[0], config, CPU).iterate_passes(3)).images
    shares = make_stream(toy_sets[0], replace(config, accumulate_steps=3), CPU).iterate_passes(3)
    assert torch.equal(torch.cat([share.images for share in shares]), whole)


def test_how_many_images_are_changed_at_once_does_not_matter(monkeypatch):
    images = torch.randint(0, 256, (30, 3, 20, 20), dtype=torch.uint8, generator=seeding.generator(0, "test"))
    results = []
    for numbers in (1, 7000, 1 << 30):
        monkeypatch.setattr(augment, "CPU_NUMBERS", numbers)
        results.append(Augmentation(**ALL)(images, seeding.generator(1, "test")))
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[2])
