"""Fixtures of all tests: a separate cache, the real data if available, small data sets."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot import Episode, ImageSet, create_backbone, create_method
from fewshot.runtime import seeding
from fewshot.sampling.streams import EpisodeStream


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # pytest-xdist runs one test per core


def _data() -> Path | None:
    root = os.environ.get("FEWSHOT_DATA")
    return Path(root) if root and (Path(root) / "omniglot").is_dir() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _data() is None:
        skip = pytest.mark.skip(reason="FEWSHOT_DATA names no folder with real data (see data/README.md)")
        for item in items:
            if item.get_closest_marker("needs_data"):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FEWSHOT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = _data()
    assert root is not None, "mark tests that use data_root with needs_data"
    return root


def striped(n_classes: int, n_images: int = 8, size_px: int = 16, split: str | None = None, seed: int = 0) -> ImageSet:
    """Make a small data set that can be learned: class c has noisy stripes of its own direction and width."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    images, labels = [], []
    for c in range(n_classes):
        angle, width = rng.uniform(0, np.pi), rng.uniform(0.4, 1.6)
        for _ in range(n_images):
            wave = np.sin(width * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
            images.append(np.clip(127 + 80 * wave + rng.normal(0, 20, wave.shape), 0, 255))
            labels.append(c)
    names = [f"{split}-{seed}-{c}" for c in range(n_classes)]
    return ImageSet(np.array(images, np.uint8)[:, None], labels, names, name="striped", split=split)


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Within the block training on episodes receives the stop signal in step number `steps`."""
    passes = EpisodeStream.iterate_passes

    def signalling(self: EpisodeStream, step: int) -> Iterator[Episode]:
        if step == steps - 1:
            signal.raise_signal(signal.SIGTERM)
        return passes(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeStream, "iterate_passes", signalling)
        yield


@pytest.fixture(scope="session")
def toy_sets() -> tuple[ImageSet, ImageSet, ImageSet]:
    """train, val, test of the striped toy set."""
    return tuple(striped(12, split=split, seed=seed) for seed, split in enumerate(("train", "val", "test")))


@pytest.fixture(scope="session")
def small_protonet():
    """A function: a seeded ProtoNet on a small Conv-4 for 16 px images."""

    def make(seed: int = 0, **options: object):
        with seeding.fork(seed, "test"):
            return create_method("protonet", create_backbone("conv4", 1, 16, n_filters=8), **options)

    return make
