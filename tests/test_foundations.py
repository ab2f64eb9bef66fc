"""Floor 0: registries, seeds, precision."""

import numpy as np
import pytest
import torch

from fewshot import seeding
from fewshot.errors import ConfigError, UnknownNameError
from fewshot.precision import autocast, resolve
from fewshot.registry import Registry


def test_registry_refuses_duplicates_and_lists_what_it_knows():
    registry = Registry("fruit")
    registry.register("apple", int)

    @registry.register("pear")
    def pear():
        return 3

    assert registry["pear"]() == 3
    assert registry.names() == ["apple", "pear"]
    assert "apple" in registry
    with pytest.raises(ValueError, match="fruit 'apple' is registered twice"):
        registry.register("apple", float)
    with pytest.raises(UnknownNameError, match=r"unknown fruit 'appel'. Did you mean 'apple'\? Known: apple, pear\."):
        registry["appel"]


def test_seeds_depend_on_every_name():
    seeds = {seeding.derive(*names) for names in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a1"), (0, "a", 2)]}
    assert len(seeds) == 7
    assert seeding.derive(5, "a") == seeding.derive(5, "a")
    assert all(0 <= s < 2**63 for s in seeds)
    a, b = (torch.rand(4, generator=seeding.generator(3, "x")) for _ in range(2))
    assert torch.equal(a, b)
    assert np.array_equal(seeding.numpy_generator(3).random(4), seeding.numpy_generator(3).random(4))


def test_forked_seeds_within_and_restores_after():
    before = torch.random.get_rng_state()
    with seeding.forked(1, "weights"):
        first = torch.rand(3)
        seeding.reseed(1, "weights")
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.random.get_rng_state())


def test_precision():
    cpu = torch.device("cpu")
    assert resolve("float32", cpu) == "float32"
    assert resolve("auto", cpu) in ("float32", "bfloat16")
    with pytest.raises(ConfigError, match="float16"):
        resolve("float16", cpu)
    a = torch.ones(2, 2)
    with autocast("bfloat16", cpu):
        assert (a @ a).dtype == torch.bfloat16
    with autocast("float32", cpu):
        assert (a @ a).dtype == torch.float32
