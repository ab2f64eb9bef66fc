"""Several threads share a network: no thread changes its layout, mode or hooks during a pass of another."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, Thread

import numpy as np
import pytest
import torch
from conftest import striped
from torch import Tensor, nn

from fewshot import FewShotClassifier, create_backbone, create_method, evaluate
from fewshot.backbones import Viewed
from fewshot.estimator.fitting import FittedMethod
from fewshot.evaluation.embed import embed
from fewshot.runtime import seeding
from fewshot.runtime.evaluation_mode import evaluating
from fewshot.runtime.layout import channels_last
from fewshot.sampling.episodes import EpisodeSpec

MINUTE = 60  # seconds after which a thread that waits for another one gives up


def pictures(n_each: int = 3, side: int = 32) -> tuple[list[np.ndarray], list[str]]:
    draw = seeding.numpy_generator(0, "threads")
    labels = [name for name in ("a", "b", "c") for _ in range(n_each)]
    return list(draw.integers(0, 255, (len(labels), side, side, 3), np.uint8)), labels


def classifier(**options: object) -> FewShotClassifier:
    """A classifier on a network with depthwise and 1 x 1 convolutions, without trained weights."""
    given = {"backbone": "efficientnet-lite0", "pretrained": False, "size_px": 32, "precision": "float32"}
    return FewShotClassifier(**given | options).fit(*pictures())


def layouts(module: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    """Address and strides of the weight of each convolution."""
    return [(weight.data_ptr(), weight.stride()) for weight in module.parameters() if weight.dim() == 4]


class InTheMiddle:
    """Runs `work` in another thread while the first thread that reaches `layer` is inside it."""

    def __init__(self, layer: nn.Module, work) -> None:
        self.work, self.came = work, False
        self.hook = layer.register_forward_pre_hook(self)

    def __call__(self, *_: object) -> None:
        if not self.came:
            self.came = True
            with ThreadPoolExecutor(1) as other:
                self.result = other.submit(self.work).result(MINUTE)


def convolution(module: nn.Module) -> nn.Module:
    """A convolution in the middle of a network."""
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    return convolutions[len(convolutions) // 2]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_answering_moves_no_weight(precision):
    """A weight that changes its layout while a convolution of another thread reads it causes wrong answers."""
    fitted, (images, _) = classifier(precision=precision), pictures()
    encoder = fitted.encoder_.network
    before, seen = layouts(encoder), []
    convolution(encoder).register_forward_pre_hook(lambda *_: seen.append(layouts(encoder)))
    alone = fitted.predict_proba(images)
    between = InTheMiddle(convolution(encoder), lambda: fitted.predict_proba(images))
    np.testing.assert_array_equal(fitted.predict_proba(images), alone)
    np.testing.assert_array_equal(between.result, alone)
    assert len(seen) == 3
    assert all(during == before for during in seen)
    assert layouts(encoder) == before


def test_eight_threads_answer_as_one_does():
    fitted, (images, _) = classifier(), pictures()
    alone = fitted.predict_proba(images)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns 500 times as often
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: fitted.predict_proba(images), range(96)))
    finally:
        sys.setswitchinterval(usual)
    assert [number for number, answer in enumerate(answers) if not np.array_equal(answer, alone)] == []


def test_saved_weights_are_contiguous(tmp_path):
    fitted, (images, _) = classifier(), pictures()
    fitted.save(tmp_path / "a.fewshot")
    assert all(weight.is_contiguous() for weight in fitted.encoder_.method.parameters())
    loaded = FewShotClassifier.load(tmp_path / "a.fewshot")
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))
    assert all(weight.is_contiguous() for weight in loaded.encoder_.method.parameters())


def test_a_network_without_normalisation_is_copied_too():
    """Nothing can be folded, but the channels-last network must still be a copy of the one that is saved."""
    fitted = classifier(backbone="pixels", size_px=16)
    assert fitted.encoder_.network.backbone is not fitted.encoder_.method.backbone


@pytest.mark.parametrize("shared", ["method", "backbone"])
def test_the_layout_stays_until_the_last_block_ends(shared):
    backbone = create_backbone("conv4", 3, 16, n_filters=8)
    first = create_method("protonet", backbone)
    second = first if shared == "method" else create_method("nearest", backbone)
    before = layouts(first)
    one, other = ExitStack(), ExitStack()
    one.enter_context(channels_last(first))
    during = layouts(first)
    assert during != before
    other.enter_context(channels_last(second))
    one.close()
    assert layouts(first) == during
    other.close()
    assert all(weight.is_contiguous() for weight in first.parameters())
    assert [stride for _, stride in layouts(first)] == [stride for _, stride in before]


def test_the_mode_stays_until_the_last_block_ends():
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Dropout())
    module[2].eval()  # stays so
    one, other = ExitStack(), ExitStack()
    one.enter_context(evaluating(module))
    other.enter_context(evaluating(module))
    one.close()
    assert not any(part.training for part in module.modules())
    other.close()
    assert [part.training for part in module.modules()] == [True, True, True, False]


@pytest.mark.parametrize("answer", ["embed", "evaluate"])
def test_a_method_that_trains_evaluates_in_two_threads(answer, small_protonet):
    """The first thread ends while the second is inside a pass, which must stay in evaluation mode."""
    images, method = striped(6, 8, split="val"), small_protonet().train()
    work = {
        "embed": lambda: embed(method, images).values,
        "evaluate": lambda: torch.tensor(evaluate(method, images, EpisodeSpec(3, 1, 2), 9).accuracy),
    }[answer]
    alone, statistics = work(), [buffer.clone() for buffer in method.buffers()]
    came, first_is_in, second_is_in = [], Event(), Event()

    def meet(*_: object) -> None:
        came.append(1)
        if len(came) == 1:
            first_is_in.set()
            assert second_is_in.wait(MINUTE)
        elif len(came) == 2:
            second_is_in.set()
            first.result(MINUTE)  # it ends now

    method.backbone.body.blocks[2].register_forward_pre_hook(meet)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(work)
        assert first_is_in.wait(MINUTE)
        assert torch.equal(work(), alone)
    assert torch.equal(first.result(), alone)
    assert all(torch.equal(*pair) for pair in zip(method.buffers(), statistics, strict=True))
    assert method.training


def test_views_of_two_threads_do_not_mix():
    """Hooks on the shared network collect local features and stop some passes, separately for each thread."""
    viewed = Viewed(create_backbone("conv4", 3, 32, n_filters=8), turns=16, rings="blocks.1").eval()
    images = torch.from_numpy(np.stack(pictures()[0])).permute(0, 3, 1, 2)
    look = torch.no_grad()(lambda: viewed(images))
    alone = look()
    between = InTheMiddle(viewed.source.body.blocks[0], look)
    torch.testing.assert_close(look(), alone, rtol=0, atol=0)
    torch.testing.assert_close(between.result, alone, rtol=0, atol=0)


def test_another_threads_view_that_stops_early_stops_no_other():
    viewed = Viewed(create_backbone("conv4", 3, 32, n_filters=8), turns=16, rings="blocks.1").eval()
    image = torch.zeros(1, 3, 32, 32)
    stopping, passed = Event(), Event()

    def wait(*_: object) -> None:  # within the pass that stops after blocks.1
        stopping.set()
        assert passed.wait(MINUTE)

    hook = viewed.source.body.blocks[0].register_forward_hook(wait)
    other = Thread(target=viewed._run_to_layer, args=(image,))
    other.start()
    assert stopping.wait(MINUTE)
    hook.remove()
    try:
        features: Tensor = viewed.source(image)
    finally:
        passed.set()
        other.join(MINUTE)
    assert features.shape == (1, viewed.source.feature_dim)


def test_methods_that_adapt_weights_answer_one_thread_at_a_time(monkeypatch):
    """They replace the weights of the network that all threads share."""
    options = {"backbone": "conv4", "backbone_options": {"n_filters": 8}, "calibrate": False}
    fitted, (images, _) = classifier(method="finetune", method_options={"steps": 1}, **options), pictures()
    alone, inside, most, logits = fitted.predict_proba(images), [], [], FittedMethod._classify

    def slow(self: FittedMethod, queries: Tensor) -> Tensor:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return logits(self, queries)

    monkeypatch.setattr(FittedMethod, "_classify", slow)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: fitted.predict_proba(images), range(4)))
    assert all(np.array_equal(answer, alone) for answer in answers)
    assert most == [1] * 4
