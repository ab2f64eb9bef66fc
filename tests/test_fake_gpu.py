"""On a device that is not there: what is left on the CPU by mistake, and where the host waits for the device.

Fake tensors have a device and a shape, but no numbers. Where two meet that lie on different devices, torch raises;
and where the host wants to know a number, or a shape that depends on numbers, it would wait for a real device, and
the fake one raises too. The device is called "meta": torch takes gradients there without a driver.
"""

import contextlib
import copy
from dataclasses import replace

import pytest
import torch
from backbone_cases import NAMES, PX, small_backbone
from method_cases import VARIANTS, WAITING, names, on_images
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from fewshot import Episode, TrainConfig
from fewshot.augment import Augmentation
from fewshot.learner import Learner

DEVICE = "meta"
WAITS = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(autouse=True)
def _autocast_of_the_device(monkeypatch):
    """torch knows no autocast for it: the CPU's stands in."""
    autocast, is_enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def known(device):
        return "cpu" if device == DEVICE else device

    monkeypatch.setattr(torch, "autocast", lambda device_type, *args, **kw: autocast(known(device_type), *args, **kw))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: is_enabled(*map(known, device)))
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: dtype(known(device)))


@pytest.fixture
def fake():
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_tensor(fake: FakeTensorMode, like: Tensor) -> Tensor:
    with fake:
        return torch.empty(like.shape, dtype=like.dtype, device=DEVICE)


def fake_copy(fake: FakeTensorMode, module: nn.Module) -> nn.Module:
    """A copy of `module` whose parameters and buffers are fake."""
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


def expecting(name):
    """Within the block the host waits if the method of that name is known to, and else does not."""
    return pytest.raises(WAITS) if name in WAITING else contextlib.nullcontext()


def test_logits_of_every_method(fake, case):
    name, method, episode = case
    with expecting(name), fake, torch.no_grad():
        logits = method.eval()(episode.support, episode.support_labels, episode.query, episode.n_way)
        assert logits.device.type == DEVICE


def test_a_training_step_of_every_method(fake, case):
    name, method, episode = case
    with expecting(name), fake:
        learner = Learner(method.train(), TrainConfig(max_steps=4, max_gradient_norm=1.0))
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
