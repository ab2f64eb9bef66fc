"""Registries, seeds and precision."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewshot import TrainConfig, train
from fewshot.errors import ConfigError, UnknownNameError
from fewshot.registry import Registry
from fewshot.runtime import seeding
from fewshot.runtime.precision import autocast, resolve, switch_tf32
from fewshot.runtime.transfer import send


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
    with seeding.fork(1, "weights"):
        first = torch.rand(3)
        seeding.reseed(1, "weights")
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.random.get_rng_state())


CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_precision():
    assert resolve("float32", CPU) == "float32"
    assert resolve("auto", CPU) in ("float32", "bfloat16")
    with pytest.raises(ConfigError, match="precision is auto, float32, tf32, bfloat16 or float16, got 'float64'"):
        resolve("float64", CPU)
    a = torch.ones(2, 2)
    for name in ("bfloat16", "float16", "float32"):
        with autocast(name, CPU):
            assert (a @ a).dtype == getattr(torch, name)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx512_bf16", "bfloat16"), ("amx_tile amx_bf16", "bfloat16"), ("avx512f avx512bw", "float32")],
)
def test_auto_reads_what_the_cpu_multiplies(monkeypatch, flags, expected):
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(Path, "read_text", lambda path: f"flags : fpu {flags} sse\n" * 2)
    assert resolve("auto", CPU) == expected


@pytest.mark.parametrize(
    ("capability", "bfloat16", "expected"),
    [((6, 1), False, "float32"), ((7, 0), False, "float16"), ((7, 5), False, "float16"), ((8, 0), True, "bfloat16")],
)
def test_auto_takes_the_half_precision_that_a_gpu_has(monkeypatch, capability, bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    assert resolve("auto", GPU) == expected


def test_tf32_is_of_gpus(monkeypatch):
    with pytest.raises(ConfigError, match="tf32 needs an Nvidia GPU from Ampere on, and this runs on the device cpu"):
        resolve("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ConfigError, match="this runs on Tesla T4"):
        resolve("tf32", GPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert resolve("tf32", GPU) == "tf32"


def tf32_settings() -> list[str | bool]:
    """torch's settings of float32 on a GPU: matrix products, convolutions, recurrent layers."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]
    return [matmul.allow_tf32, cudnn.allow_tf32]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("context", [switch_tf32, autocast])
def test_only_tf32_rounds_float32_on_a_gpu(monkeypatch, precision, context):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    before = tf32_settings()
    rounds = "tf32" if isinstance(before[0], str) else True
    if context is autocast and not torch.cuda.is_available():
        monkeypatch.setattr(torch, "autocast", lambda *arguments, enabled: contextlib.nullcontext())
    with contextlib.suppress(ZeroDivisionError), context(precision, GPU):
        within = tf32_settings()
        raise ZeroDivisionError
    assert all((value == rounds) == (precision == "tf32") for value in within)
    assert tf32_settings() == before
    with context("float32", CPU):
        assert tf32_settings() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_rounding_of_float32_products_on_a_gpu(precision):
    generator = seeding.generator(0)
    images, kernel = torch.rand(8, 64, 16, 16, generator=generator), torch.rand(64, 64, 3, 3, generator=generator)
    matrix = torch.rand(256, 256, generator=generator)

    def products(images, kernel, matrix):
        kernel = kernel.clone().requires_grad_()
        maps = F.conv2d(images, kernel)
        (gradient,) = torch.autograd.grad(maps.square().mean(), kernel)
        return [maps.detach(), gradient, matrix @ matrix]

    exact = products(images.double(), kernel.double(), matrix.double())
    with switch_tf32(precision, GPU):
        found = products(images.to(GPU), kernel.to(GPU), matrix.to(GPU))
    pairs = zip(found, exact, strict=True)
    errors = [float((ours.cpu() - oracle).abs().max() / oracle.max()) for ours, oracle in pairs]
    rounded = [error > 1e-5 for error in errors]  # float32 has 24 bits, TF32 11; each is a mean of some 500 products
    assert any(rounded) if precision == "tf32" else not any(rounded), errors


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_training_and_evaluation_name_the_arithmetic_they_used(toy_sets, small_protonet, precision):
    train_set, val_set, _ = toy_sets
    method, seen = small_protonet().to(GPU), set()
    for weight in method.backbone.parameters():
        weight.register_hook(lambda _: seen.add(tuple(tf32_settings())))
    config = TrainConfig(
        max_steps=2, train_n_way=3, val_n_way=3, val_n_query=3, train_n_query=3, precision=precision
    )  # fmt: skip
    records = train(method, train_set, val_set, config).validation
    assert records.header.precision == precision
    assert all((value in (True, "tf32")) == (precision == "tf32") for settings in seen for value in settings)
    assert seen


def test_an_expanded_tensor_is_made_whole_before_it_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    sent = send(torch.arange(3).expand(2, 3), "cuda")
    assert pinned[0].stride() == (3, 1)  # no two elements in one place
    assert sent.tolist() == [[0, 1, 2], [0, 1, 2]]
