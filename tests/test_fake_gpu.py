"""Tests on a simulated device: tensors left on the CPU by mistake, and operations that make the host wait.

Fake tensors have a device and a shape, but no numbers. Where two meet that lie on different devices, torch raises;
and where the host wants to know a number, or a shape that depends on numbers, it would wait for a real device, and
the fake one raises too. The device is called "meta": torch takes gradients there without a driver. What comes after
the host has waited, a `PretendedGPU` sees.
"""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch
from backbone_cases import NAMES, PX, photographs, small_backbone
from method_cases import VARIANTS, WAITING, WAITING_AT_TEST_ALONE, names, on_images
from pretended_gpu import GPU, PretendedGPU, autocast_on_the_cpu, on_host, placed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from fewshot import Episode, EpisodeSpec, PretrainConfig, TrainConfig, create_backbone, create_method, evaluate
from fewshot.errors import ConfigError
from fewshot.images.augment import Augmentation
from fewshot.methods.finetune import MODES
from fewshot.runtime import seeding
from fewshot.sampling import streams  # fmt: skip
from fewshot.training.learner import Learner

DEVICE = "meta"
WAITS = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(autouse=True)
def _autocast_of_the_device(monkeypatch):
    autocast_on_the_cpu(monkeypatch, DEVICE)


@pytest.fixture
def fake():
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_tensor(fake: FakeTensorMode, like: Tensor) -> Tensor:
    with fake:
        return torch.empty(like.shape, dtype=like.dtype, device=DEVICE)


def fake_copy(fake: FakeTensorMode, module: nn.Module) -> nn.Module:
    """Copy `module` with fake parameters and buffers."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(fake_tensor(fake, parameter), parameter.requires_grad))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, fake_tensor(fake, buffer))
    return module


def faked(fake: FakeTensorMode, episode: Episode) -> Episode:
    return replace(episode, **{k: fake_tensor(fake, v) for k, v in vars(episode).items() if isinstance(v, Tensor)})


@pytest.fixture(params=VARIANTS, ids=names)
def case(request, fake, toy_sets):
    """The name of a method, and it and two episodes on the device."""
    method, episode = on_images(request.param, toy_sets[0])
    return names(request.param), fake_copy(fake, method), faked(fake, episode)


@contextlib.contextmanager
def expecting(name, training=False):
    """Within the block the host must wait if the method `name` is known to, and must not otherwise."""
    if name not in WAITING or (training and name in WAITING_AT_TEST_ALONE):
        yield
        return
    with pytest.raises((*WAITS, ConfigError)) as caught:
        yield
    assert isinstance(caught.value, WAITS) or isinstance(caught.value.__cause__, WAITS)  # MAML names the layer


def test_logits_of_every_method(fake, case):
    name, method, episode = case
    with expecting(name), fake, torch.no_grad():
        logits = method.eval()(episode.support, episode.support_labels, episode.query, episode.n_way)
        assert logits.device.type == DEVICE


def test_a_training_step_of_every_method(fake, case):
    name, method, episode = case
    with expecting(name, training=True), fake:
        learner = Learner(method.train(), TrainConfig(max_steps=4, max_gradient_norm=1.0, precision="float32"))
        loss, accuracy = method.training_step(episode)
        loss.backward()
        assert learner.update().device.type == accuracy.device.type == DEVICE


def test_methods_that_wait_are_tested():
    assert WAITING.keys() <= set(map(names, VARIANTS))


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone(fake, name):
    backbone = fake_copy(fake, small_backbone(name))
    images = fake_tensor(fake, torch.zeros(4, 3, PX + 8, PX + 8, dtype=torch.uint8))
    with fake, torch.no_grad():
        assert backbone.eval()(images).device.type == DEVICE
    with fake:
        features = backbone.train()(images)
        if features.requires_grad:
            features.sum().backward()
    assert features.device.type == DEVICE
    assert all(p.grad is None or p.grad.device.type == DEVICE for p in backbone.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation(fake, channels):
    images, generator = torch.zeros(4, channels, PX, PX, dtype=torch.uint8), torch.Generator().manual_seed(0)
    with fake:
        changed = Augmentation(20.0, 10.0, 0.2, 0.1, 0.5, True, 0.3)(fake_tensor(fake, images), generator)
    assert (changed.device.type, changed.dtype) == (DEVICE, torch.uint8)


def test_a_tensor_left_on_the_cpu_is_found(fake):
    with fake:
        there, here = torch.ones(3, device=DEVICE, requires_grad=True), torch.ones(3)
        with pytest.raises(RuntimeError, match="devices"):
            there + here
        for wait in (lambda: bool((there > 0).any()), there.sum().item, there.nonzero, lambda: there[there > 0]):
            with pytest.raises(WAITS):
                wait()


# Past the places where the host waits


@pytest.fixture(params=VARIANTS, ids=names)
def variant(request):
    return request.param


def test_every_method_runs_to_its_end(toy_sets, variant):
    method, episode = on_images(variant, toy_sets[0])
    arguments = (episode.support, episode.support_labels, episode.query, episode.n_way)
    expected = method.eval()(*arguments).detach()
    with PretendedGPU() as gpu:
        with torch.no_grad():
            logits = method(*arguments)
        learner = Learner(method.train(), TrainConfig(max_steps=4, max_gradient_norm=1.0, precision="float32"))
        loss, accuracy = method.training_step(episode)
        loss.backward()
        waits = gpu.waits  # torch's optimisers see what the tensors really lie on
        norm = learner.update()
    assert not any(map(on_host, (logits, loss, accuracy, norm)))
    assert bool(waits) == (names(variant) in WAITING)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"augmentation": {"shift": 0.1}, "test_views": 2, "early_stopping": 0.4}])
def test_every_mode_of_finetuning_runs_to_its_end(mode, options):
    if mode == "lora":
        pytest.importorskip("peft", reason="peft is not installed: pip install 'fewshot[finetune]'")
    small = {"lora_rank": 2, "adapter_width": 2, "n_prompts": 2, "steps": 3, "dropout": 0.1, "batch_images": 8}
    with seeding.fork(0, "test"):
        method = create_method("finetune", create_backbone("conv4", 3, PX, n_filters=4), mode=mode, **small | options)
    images, labels = photographs(12), torch.arange(12) % 3
    with PretendedGPU():
        fitted = method.eval().fit_support(images, labels, 3)
        logits = fitted.logits(images)
        again = method.restore({name: t.cpu() for name, t in fitted.state.items()}, 3).logits(images)
    assert not on_host(logits)
    torch.testing.assert_close(again, logits)


@pytest.mark.parametrize("augmentation", [{}, {"shift": 0.1, "colour": 0.1}])
@pytest.mark.parametrize("stays", [False, True])
def test_episodes_are_drawn_onto_the_device(toy_sets, monkeypatch, augmentation, stays):
    placed(toy_sets[0].images, True)
    monkeypatch.setattr(streams, "ON_DEVICE_BYTES", 0 if stays else 1 << 30)
    for config in (TrainConfig(train_n_way=4, augmentation=augmentation), PretrainConfig(augmentation=augmentation)):
        with PretendedGPU() as gpu:
            made = streams.make_stream(toy_sets[0].rotations_as_classes(), config, GPU)
            before = gpu.waits
            batch = next(made.iterate_passes(0))
        assert not any(on_host(value) for value in vars(batch).values() if isinstance(value, Tensor))
        assert gpu.waits == before
        with PretendedGPU():
            assert all(on_host(value) for value in vars(batch.to("cpu")).values() if isinstance(value, Tensor))
        expected = next(
            streams.make_stream(toy_sets[0].rotations_as_classes(), config, torch.device("cpu")).iterate_passes(0)
        )
        assert all(torch.equal(v, vars(batch)[k]) for k, v in vars(expected).items() if isinstance(v, Tensor))


@pytest.mark.parametrize("name", ["protonet", "simpleshot", "maml", "nearest"])
def test_evaluation_is_the_same(toy_sets, name):
    for imageset in toy_sets:
        placed(imageset.images, True)
    variant = next(variant for variant in VARIANTS if variant[0] == name)
    method, _ = on_images(variant, toy_sets[0])
    spec = EpisodeSpec((2, 4), (1, 2), (1, 3))
    expected = evaluate(method, toy_sets[2], spec, 20)
    with PretendedGPU():
        actual = evaluate(method, toy_sets[2], spec, 20)
    assert [e[:5] for e in actual.episodes] == [pytest.approx(e[:5], abs=1e-4) for e in expected.episodes]


def test_what_a_pretended_gpu_finds():
    there = torch.ones(3)
    with PretendedGPU() as gpu:
        here = torch.arange(3)
        assert (there.device, here.device, here.to(there.device).device) == (GPU, torch.device("cpu"), GPU)
        assert there[here].device == torch.zeros_like(there).device == there.new_zeros(2).device == GPU
        for mixed in (lambda: there + here, lambda: torch.stack([there, here]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="GPU"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert gpu.waits == 1  # for the copy
        assert there.sum() == 3
        assert gpu.waits == 2
        with pytest.raises(RuntimeError, match="before it is there"):
            there.to("cpu", non_blocking=True)
        assert on_host(there.cpu())
        assert not on_host(here.to(GPU, non_blocking=True))
        assert gpu.waits == 3
        twos = torch.full_like(there, 2.0)
        for select in (there.__getitem__, lambda mask: there.__setitem__(mask, twos), torch.nonzero):
            select(there > 0)
        assert gpu.waits == 6
        there[there > 0] = 1.0  # fills, and does not wait
        assert gpu.waits == 6
        layer = nn.Linear(3, 3)
        with pytest.raises(RuntimeError, match="two devices"):
            layer(there)
        assert layer.to(there.device)(there).device == GPU
