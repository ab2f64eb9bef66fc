"""A GPU gives the same numbers as a CPU, and training on it can be stopped and resumed.

The images are made in code: `python -m pytest tests/test_gpu.py -m gpu` needs no data. Without a GPU all are skipped;
`FEWSHOT_TEST_DEVICE=cpu` compares the CPU with itself, which tries the tests.
"""

import copy
import importlib.util
import os
import subprocess
import sys
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbone_cases import NAMES, PX, photographs, small_backbone, without_dropout
from conftest import stopped_after
from maml_oracle import batch_statistics, plain_maml
from method_cases import VARIANTS, WAITING, WAITING_AT_TEST_ALONE, WAY, OnVectors, features, names, on_images
from torch.nn import functional as F

from fewshot import (
    Classifier,
    Episode,
    EpisodeSpec,
    PretrainConfig,
    TrainConfig,
    create_backbone,
    create_method,
    evaluate,
    load_dataset,
    train,
)
from fewshot.backbones.viewed import Viewed
from fewshot.evaluation.embed import embed
from fewshot.images.augment import Augmentation
from fewshot.methods.finetune import MODES
from fewshot.runtime import seeding  # fmt: skip
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.runtime.precision import autocast, switch_tf32
from fewshot.runtime.signals import Interrupted
from fewshot.sampling.streams import make_stream
from fewshot.training.learner import Learner
from fewshot.training.train import _Training

pytestmark = pytest.mark.gpu

ITERATIVE = ("logistic", "aligned")  # solved to a tolerance, not by a given number of steps
QUICK = TrainConfig(
    max_steps=20, train_n_way=10, train_n_query=5, val_n_query=5, val_episodes=40, val_every_steps=10,
    checkpoint_every_steps=5, log_every_steps=5, augmentation={"rotation_degrees": 15.0, "shift": 0.1},
)  # fmt: skip
STOP_AFTER = 12


@pytest.fixture(scope="session")
def device() -> torch.device:
    name = os.environ.get("FEWSHOT_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "")
    if not name:
        pytest.skip("there is no GPU (FEWSHOT_TEST_DEVICE=cpu runs these tests on the CPU)")
    return torch.device(name)


@pytest.fixture(autouse=True)
def _true_float32(device):
    """Disable TensorFloat-32 (10 bits of mantissa), which torch uses for convolutions by default."""
    with switch_tf32("float32", device):
        yield


@pytest.fixture(scope="session")
def glyph_sets():
    pytest.importorskip("matplotlib", reason="glyphs are drawn with matplotlib's fonts: it is not installed")
    return tuple(load_dataset("glyphs", split, n_writers=10) for split in ("train", "val"))


def assert_near(actual, expected, tolerance):
    """Check equality within `tolerance` of the greatest finite absolute value; infinities must match."""
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    assert actual.shape == expected.shape
    finite = expected.isfinite()
    assert torch.equal(actual.isfinite(), finite)
    assert torch.equal(actual[~finite], expected[~finite])
    scale = float(expected[finite].abs().max())
    off = float((actual - expected)[finite].abs().max())
    assert off <= tolerance * scale, f"off by {off:.3g}, the greatest value is {scale:.3g}"


# Methods


@pytest.fixture(params=VARIANTS, ids=names)
def variant(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@torch.no_grad()
def test_logits_of_every_method(device, variant, dtype):
    name, options = variant
    options = options | {"test_inner_steps": 5} if "test_inner_steps" in options else options
    method = OnVectors(name, options)
    method.method.to(dtype)
    support, labels, query, _ = features()
    labels = torch.where(labels == 2, -1, labels)  # a class that is absent, as padding
    labels[0, 0] = -1
    arguments = support.to(dtype), labels, query.to(dtype)
    expected = method(*arguments, WAY)
    method.method.to(device)
    actual = method(*(x.to(device) for x in arguments), WAY)
    assert actual.device.type == device.type
    loose = 1e-5 if any(word in (name, *options.values()) for word in ITERATIVE) else 1e-9
    assert_near(actual, expected, loose if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_training_step_of_every_method(device, toy_sets, variant, dtype):
    method, episode = on_images(variant, toy_sets[0])
    method.to(dtype).train()
    state = {key: value.clone() for key, value in method.state_dict().items()}

    def step(batch):
        method.zero_grad(set_to_none=True)
        loss, train_accuracy = method.training_step(batch)
        loss.backward()
        gradients = {key: p.grad.cpu() for key, p in method.named_parameters()}
        return loss.detach().cpu(), train_accuracy.cpu(), gradients

    loss, _, gradients = step(episode)
    method.load_state_dict(state)
    method.to(device)
    our_loss, our_accuracy, ours = step(episode.to(device))
    assert our_accuracy.isfinite()
    iterative = any(word in (variant[0], *variant[1].values()) for word in ITERATIVE)
    tolerance = (1e-5 if iterative else 1e-8) if dtype == torch.float64 else 1e-3
    assert_near(our_loss, loss, tolerance)
    flat, our_flat = (torch.cat([g.flatten() for g in gs.values()]) for gs in (gradients, ours))
    assert_near(our_flat, flat, tolerance if dtype == torch.float64 else 1e-2)


def test_training_step_of_every_method_in_bfloat16(device, toy_sets, variant):
    method, episode = on_images(variant, toy_sets[0])
    method.to(device).train()
    with autocast("bfloat16", device):
        loss, _ = method.training_step(episode.to(device))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())
    with torch.no_grad(), autocast("bfloat16", device):
        batch = episode.to(device)
        assert not method.eval()(batch.support, batch.support_labels, batch.query, WAY).isnan().any()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 5])
def test_maml_equals_the_plain_loop_in_float64(device, order, steps):
    options = dict(order=order, inner_lr=0.1, inner_reduction="sum/K")
    with seeding.fork(0, "test"):
        backbone = create_backbone("conv4", 1, 16, n_filters=4)
        options |= dict(n_way=WAY, inner_steps=steps, adapt_norm=True, transductive=True)
        method = create_method("maml", backbone, **options)
    method = method.double().train().to(device)
    generator, labels = seeding.generator(0, "maml episodes"), torch.arange(WAY).repeat(2).expand(3, -1)
    support, query = (torch.rand(3, 2 * WAY, 1, 16, 16, dtype=torch.float64, generator=generator) for _ in range(2))
    batch = Episode(support, labels, query, labels, WAY, labels[:, :WAY]).to(device)

    plain = batch_statistics(method.backbone)
    leaves = {f"backbone.{key}": p for key, p in plain.named_parameters()}
    leaves |= {f"classifier.{key}": p for key, p in copy.deepcopy(method.classifier).named_parameters()}
    loop = dict(order=order, steps=steps, lr=0.1, reduction="sum/K")
    expected = torch.stack([
        plain_maml(plain, leaves["classifier.weight"], leaves["classifier.bias"], *row, **loop)[1]
        for row in zip(batch.support, batch.support_labels, batch.query, strict=True)
    ])  # fmt: skip
    loss = F.cross_entropy(expected.flatten(0, 1), batch.query_labels.flatten())
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    our_loss, logits = method.loss_and_logits(batch)
    our_loss.backward()
    assert_near(logits, expected, 1e-8)
    for key, gradient in gradients.items():
        torch.testing.assert_close(method.get_parameter(key).grad, gradient, rtol=1e-7, atol=1e-8, msg=key)


FINETUNED = [
    *(("conv4", mode, {}) for mode in MODES),
    ("conv4", "full", {"augmentation": {"rotation_degrees": 10.0}, "test_views": 2}),
    ("conv4", "full", {"dropout": 0.2, "early_stopping": 0.5, "layer_decay": 0.5}),
    ("timm/vit_tiny_patch16_224", "prompt", {}),
    ("timm/vit_tiny_patch16_224", "lora", {}),
]


@pytest.mark.parametrize(("name", "mode", "options"), FINETUNED)
def test_every_mode_of_finetuning(device, name, mode, options):
    for package in (("timm",) if "timm" in name else ()) + (("peft",) if mode == "lora" else ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"this needs {package}, which is not installed")
    with seeding.fork(0, "test"):
        vit = {"embed_dim": 8, "depth": 2, "num_heads": 2}
        backbone = create_backbone(name, 3, PX, **(vit if "vit" in name else {"n_filters": 4}))
        small = {"lora_rank": 2, "adapter_width": 2, "n_prompts": 2, "steps": 4, "lr": 0.001}
        method = create_method("finetune", backbone, mode=mode, **small | options).eval()
    images, labels = photographs(12), torch.arange(12) % 3
    expected = method.fit_support(images, labels, 3).logits(images)
    method.to(device)
    fitted = method.fit_support(images.to(device), labels.to(device), 3)
    actual = fitted.logits(images.to(device))
    assert actual.device.type == device.type
    assert_near(actual, expected, 1e-2)
    again = method.restore({key: value.cpu() for key, value in fitted.state.items()}, 3)
    assert_near(again.logits(images.to(device)), actual, 1e-6)


# Backbones


@pytest.fixture(params=NAMES)
def backbone(request):
    return without_dropout(small_backbone(request.param))


@torch.no_grad()
def test_features_of_every_backbone(device, backbone):
    images = photographs(4)
    expected = backbone.eval()(images)
    assert_near(backbone.to(device)(images.to(device)), expected, 1e-4)
    backbone.to(memory_format=torch.channels_last)
    assert_near(backbone(images.to(device)), expected, 1e-4)
    with autocast("bfloat16", device):
        rough = backbone(images.to(device)).float().cpu()
    assert F.cosine_similarity(rough, expected).min() > 0.98


def test_gradients_of_every_backbone(device, backbone):
    if not list(backbone.parameters()):
        pytest.skip("there are no weights")
    exact = not isinstance(backbone, Viewed)  # which makes float32 images
    backbone.to(torch.float64 if exact else torch.float32).train()
    state = {key: value.clone() for key, value in backbone.state_dict().items()}

    def gradient(images):
        backbone.zero_grad(set_to_none=True)
        output = backbone(images)
        towards = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output).to(output.device)
        (output * towards).sum().backward()
        return torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])

    expected = gradient(photographs(4))
    backbone.load_state_dict(state)
    backbone.to(device)
    # torch's CUDA kernel of hardswish multiplies by a sixth that is rounded to float32, also in float64
    hard = any("hard" in type(module).__name__.lower() for module in backbone.modules())
    tolerance = (1e-5 if hard else 1e-7) if exact else 1e-2
    assert_near(gradient(photographs(4).to(device)), expected, tolerance)


# Images


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_the_same_but_for_rounding(device, channels):
    augment = Augmentation(20.0, 10.0, 0.2, 0.1, 0.5, True, 0.3)
    images = photographs(64)[:, :channels]
    expected = augment(images, seeding.generator(0, "augmentation"))
    actual = augment(images.to(device), seeding.generator(0, "augmentation"))
    assert actual.device.type == device.type
    off = (actual.cpu().int() - expected.int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 1e-2


@pytest.mark.parametrize("augmentation", [{}, {"rotation_degrees": 15.0, "flip": True}])
def test_training_episodes_are_the_same(device, toy_sets, augmentation):
    config = replace(QUICK, augmentation=augmentation, episodes_per_step=4)
    streams = (make_stream(toy_sets[0], config, d) for d in (torch.device("cpu"), device))
    here, there = (next(stream.iterate_passes(3)) for stream in streams)
    for field in ("support_labels", "query_labels", "classes"):
        assert torch.equal(getattr(there, field).cpu(), getattr(here, field))
    for field in ("support", "query"):
        assert getattr(there, field).device.type == device.type
        off = (getattr(there, field).cpu().int() - getattr(here, field).int()).abs()
        assert off.max() <= (1 if augmentation else 0)
        assert (off > 0).float().mean() < 1e-2


# Evaluation


def protonet(n_filters=16, px=28):
    with seeding.fork(0, "test"):
        return create_method("protonet", create_backbone("conv4", 1, px, n_filters=n_filters))


def test_embedding(device, toy_sets):
    method, rows = protonet(px=16), torch.arange(5, 60)
    expected = embed(method, toy_sets[0], rows).values
    actual = embed(method.to(device), toy_sets[0], rows).values
    assert actual.device.type == device.type
    assert_near(actual, expected, 1e-4)
    assert_near(embed(method, toy_sets[0].to(device), rows).values, expected, 1e-4)


@pytest.mark.parametrize("name", ["protonet", "maml", "baseline"])
@pytest.mark.parametrize("ragged", [False, True])
def test_records_are_the_same_but_for_ties(device, toy_sets, name, ragged):
    spec = EpisodeSpec((3, 5), (1, 3), (2, 5)) if ragged else EpisodeSpec(5, 2, 6)
    with seeding.fork(0, "test"):
        options = {"inner_lr": 0.05} if name == "maml" else {}
        method = create_method(name, create_backbone("conv4", 1, 16, n_filters=8), **options)
    tied = {}

    def watch(first, episode, logits):
        top = logits.cpu().topk(2).values  # (B, n_query, 2)
        counts = episode.query_labels.cpu() >= 0
        near = (top[..., 0] - top[..., 1] < 1e-3 * top[top.isfinite()].abs().max()) & counts
        tied.update({first + b: int(near[b].sum()) / int(counts[b].sum()) for b in range(len(near))})

    expected = evaluate(method, toy_sets[2], spec, 100, watch=watch)
    actual = evaluate(method.to(device), toy_sets[2], spec, 100)
    assert actual.header.n_episodes == 100
    for ours, theirs in zip(actual.episodes, expected.episodes, strict=True):
        assert (ours.index, ours.n_way, ours.n_support) == (theirs.index, theirs.n_way, theirs.n_support)
        assert abs(ours.accuracy - theirs.accuracy) <= tied[ours.index] + 1e-6
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3, abs=1e-4)
    assert sum(tied.values()) / len(tied) < 0.05


@pytest.mark.parametrize("options", [{}, {"method": "aligned", "rotation_invariant": 8}, {"method": "finetune"}])
def test_the_classifier_of_a_users_images(device, options):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from fewshot import FewShotClassifier

    options |= dict(backbone="conv4", pretrained=False, backbone_options={"n_filters": 8}, size_px=PX, seed=0)
    options |= {"views": {"rings": "blocks.1"}} if options.get("method") == "aligned" else {}
    images = [image.permute(1, 2, 0).numpy() for image in photographs(18)]
    labels = [number % 3 for number in range(18)]
    here, there = (
        FewShotClassifier(device=d, precision="float32", **options).fit(images[:12], labels[:12])
        for d in ("cpu", str(device))
    )
    assert_near(there.logits(images), here.logits(images), 1e-3)
    assert abs(there.predict_proba(images) - here.predict_proba(images)).max() < 1e-2
    assert abs(there.predict_held_out()[0] - here.predict_held_out()[0]).max() < 1e-2


# Training


def run_twice(folder, config, train_set, val_set):
    """Checkpoints of an uninterrupted run, and of one that was stopped after `STOP_AFTER` steps and resumed."""
    whole, halted = (replace(config, run_dir=str(Path(folder) / name)) for name in ("whole", "halted"))
    train(protonet(px=train_set.image_shape[-1]), train_set, val_set, whole)
    with stopped_after(STOP_AFTER), pytest.raises(Interrupted):
        train(protonet(px=train_set.image_shape[-1]), train_set, val_set, halted)
    assert load_checkpoint(Path(halted.run_dir) / "last.safetensors")["progress"][0] == STOP_AFTER
    result = train(protonet(px=train_set.image_shape[-1]), train_set, val_set, replace(halted, resume=True))
    assert result.steps == config.max_steps
    return [load_checkpoint(Path(c.run_dir) / "last.safetensors") for c in (whole, halted)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_and_going_on(device, glyph_sets, tmp_path, precision):
    config = replace(QUICK, precision=precision)
    whole, resumed = run_twice(tmp_path, config, *glyph_sets)
    for checkpoint in (whole, resumed):
        assert checkpoint["progress"][0] == config.max_steps
        assert all(weight.isfinite().all() for weight in checkpoint["method"].values())
        assert checkpoint["history"][-1][2] > 0.3  # 5 classes
    a, b = (torch.cat([w.flatten().double() for w in c["method"].values()]) for c in (whole, resumed))
    assert (a - b).norm() < 0.05 * a.norm()  # sums in another order, at most


RESUMED = """
import sys, torch
sys.path.insert(0, {tests!r})
from dataclasses import replace
from conftest import stopped_after, striped
from test_gpu import QUICK, run_twice
config = replace(QUICK, precision={precision!r}, average_decay=0.9, deterministic=True)
sets = striped(12, split="train"), striped(12, split="val", seed=1)
whole, resumed = run_twice({folder!r}, config, *sets)
assert whole["progress"][:3] == resumed["progress"][:3], (whole["progress"], resumed["progress"])
for part in ("method", "training"):
    for key, weight in whole[part].items():
        assert torch.equal(weight, resumed[part][key]), (part, key, (weight - resumed[part][key]).abs().max())
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_resumed_training_is_the_same_bit_for_bit(device, tmp_path, precision):
    code = RESUMED.format(tests=str(Path(__file__).parent), folder=str(tmp_path), precision=precision)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own compiler
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")
@pytest.mark.parametrize("method", ["protonet", "maml", "relation"])
def test_a_compiled_step_trains_the_same(gpu, toy_sets, method):
    """Sums may have another order; a few steps of plain gradient descent."""
    config = replace(QUICK, max_steps=4, precision="float32", optimizer="sgd", lr=1e-3, schedule="constant")
    weights = []
    for compiled in (False, True):
        with seeding.fork(0, "test"):
            options = {"n_way": QUICK.train_n_way} if method == "maml" else {}
            made = create_method(
                method,
                create_backbone("conv4-relation" if method == "relation" else "conv4", 1, 16, n_filters=8),
                **options,
            )
        train(made, toy_sets[0], None, replace(config, compile=compiled))
        weights.append(torch.cat([p.detach().flatten().cpu() for p in made.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-5)


def test_training_a_plain_classifier_then_episodes_on_its_frozen_backbone(device, toy_sets):
    with seeding.fork(0, "test"):
        classifier = Classifier(create_backbone("conv4", 1, 16, n_filters=8), toy_sets[0].n_classes)
    config = PretrainConfig(
        max_steps=8, batch_size=32, val_n_query=5, val_episodes=20, val_every_steps=4, augmentation={"shift": 0.1},
    )  # fmt: skip
    assert train(classifier, *toy_sets[:2], config).steps == 8
    for parameter in classifier.backbone.parameters():
        parameter.requires_grad_(False)
    with seeding.fork(0, "test"):
        method = create_method("r2d2", classifier.backbone)
    assert train(method, *toy_sets[:2], replace(QUICK, max_steps=4, augmentation={})).steps == 4


# Waiting for the device


@contextmanager
def refusing_to_wait():
    """Within the block an operation for which the host would wait raises an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, it says
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


def run_without_waiting(step):
    """Run `step` twice, and then once more where waiting is refused; failing tells every line that led to it."""
    step()
    step()
    torch.cuda.synchronize()
    try:
        with refusing_to_wait():
            step()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        pytest.fail("".join(traceback.format_exception(error)), pytrace=False)


@pytest.fixture
def gpu(device):
    if device.type != "cuda":
        pytest.skip("a CPU never waits")
    return device


def test_a_step_of_a_method_waits_only_where_declared(gpu, toy_sets, variant):
    method, episode = on_images(variant, toy_sets[0])
    learner, episode = Learner(method.to(gpu).train(), QUICK), episode.to(gpu)

    def step():
        loss, _ = method.training_step(episode)
        loss.backward()
        learner.update()

    if names(variant) not in WAITING or names(variant) in WAITING_AT_TEST_ALONE:
        run_without_waiting(step)
    else:
        with pytest.raises(RuntimeError, match="synchroniz"), refusing_to_wait():
            step()


@pytest.mark.parametrize("augmentation", [{}, {"rotation_degrees": 15.0}])
def test_drawing_training_episodes_never_waits_for_the_gpu(gpu, toy_sets, augmentation):
    stream = make_stream(toy_sets[0], replace(QUICK, augmentation=augmentation, episodes_per_step=2), gpu)
    run_without_waiting(lambda: next(stream.iterate_passes(0)))


@pytest.mark.parametrize("options", [{}, {"augmentation": {}}, {"precision": "float32", "accumulate_steps": 2}])
@pytest.mark.parametrize("rotated", [False, True])
def test_steps_of_fit_never_wait_for_the_gpu(gpu, toy_sets, monkeypatch, options, rotated):
    optimise = _Training._optimise

    def watched(training):
        if training.learner.step < 2:  # libraries begin
            return optimise(training)
        with refusing_to_wait():
            return optimise(training)

    monkeypatch.setattr(_Training, "_optimise", watched)
    train_set = toy_sets[0].rotations_as_classes() if rotated else toy_sets[0]
    config = replace(QUICK, max_steps=5, log_every_steps=5, episodes_per_step=2, **options)
    assert train(protonet(px=16), train_set, None, config).steps == 5
