"""Stage 1: the classifier of the base classes, its batches, and how stage 2 starts from it."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from fewshot import EpisodeSpec, ImageSet, create_backbone, create_method, evaluate, train
from fewshot.config import ExperimentConfig, PretrainConfig, PretrainExperimentConfig, TrainConfig
from fewshot.errors import ConfigError, EpisodeError, LeakageError
from fewshot.evaluation.records import Records
from fewshot.experiments import build
from fewshot.experiments.build import build_classifier, build_method, load_config, load_run, load_split
from fewshot.experiments.cells import list_cells
from fewshot.experiments.starting import (
    build_compared_methods,
    build_starting_method,
    find_selected_on,
    load_pretrained,
)
from fewshot.methods import METHODS, Method
from fewshot.methods.base_classifier import Classifier, CosineClassifier
from fewshot.runtime import provenance, seeding
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint
from fewshot.sampling.batches import Batch, BatchSampler
from fewshot.sampling.streams import BatchStream, make_stream
from fewshot.training.optimization import make_learning_rate_factor
from fewshot.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
QUICK = PretrainConfig(
    max_steps=12, batch_size=16, val_n_query=3, val_episodes=30, val_every_steps=4, checkpoint_every_steps=5,
    precision="float32", schedule="constant",
)  # fmt: skip


def classifier(n_classes: int = 12, seed: int = 0, **options: object) -> Classifier:
    with seeding.fork(seed, "test"):
        return Classifier(create_backbone("conv4", 1, 16, n_filters=8), n_classes, **options)


class Features(nn.Module):
    """A backbone whose features are the prepared images, flat."""

    feature_dim = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


# ---------------------------------------------------------------- batches


def numbered(n_images: int = 10) -> ImageSet:
    """Image i has the value 20 * i everywhere; classes of two and more."""
    images = np.arange(n_images, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.full((1, 1, 4, 4), 20, np.uint8)
    return ImageSet(images, np.arange(n_images) // 2, [f"c{c}" for c in range(n_images // 2)], split="train")


def test_every_epoch_shows_each_image_once():
    sampler = BatchSampler(numbered(), seed=3)
    dealt = [sampler.batch(first, 4).rows.tolist() for first in range(0, 40, 4)]  # blocks cross the epochs' ends
    flat = [row for rows in dealt for row in rows]
    epochs = [flat[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    again = BatchSampler(numbered(), seed=3)
    assert again.batch(25, 13).rows.tolist() == flat[25:38]  # whatever was dealt before
    assert BatchSampler(numbered(), seed=4).batch(0, 10).rows.tolist() != flat[:10]


def test_a_batch_larger_than_the_set_repeats_it():
    batch = BatchSampler(numbered(), seed=0).batch(5, 25)
    assert sorted(batch.rows[5:15].tolist()) == list(range(10))
    assert torch.equal(batch.labels, batch.rows // 2)


def test_images_come_with_their_labels():
    stream = make_stream(numbered(), replace(QUICK, batch_size=6), CPU)
    assert isinstance(stream, BatchStream)
    (batch,) = stream.iterate_passes(1)
    assert batch.images.shape == (6, 1, 4, 4)
    assert batch.images.dtype == torch.uint8
    assert torch.equal(batch.images[:, 0, 0, 0] // 40, batch.labels.to(torch.uint8))


def test_a_step_takes_the_same_images_however_it_is_split(toy_sets):
    augmentation = {"rotation_degrees": 30.0, "colour": 0.2}
    for config in (QUICK, replace(QUICK, augmentation=augmentation)):
        steps = [
            [
                Batch(b.images, b.labels)
                for b in make_stream(toy_sets[0], replace(config, accumulate_steps=n), CPU).iterate_passes(5)
            ]
            for n in (1, 4)
        ]
        assert [len(step) for step in steps] == [1, 4]
        assert torch.equal(*(torch.cat([b.images for b in step]) for step in steps))
        assert torch.equal(*(torch.cat([b.labels for b in step]) for step in steps))
    plain, changed = (next(make_stream(toy_sets[0], c, CPU).iterate_passes(5)).images for c in (QUICK, config))
    assert (plain != changed).flatten(1).any(1).all()


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ConfigError, match="batch_size=16 cannot be split into accumulate_steps=3"):
        replace(QUICK, accumulate_steps=3)
    with pytest.raises(ConfigError, match="batch_size must be positive, got 0"):
        replace(QUICK, batch_size=0)


# ---------------------------------------------------------------- the classifier


def test_loss_and_accuracy_by_hand():
    method = Classifier(Features(), 3)
    assert not method.classifier.bias.any()
    with torch.no_grad():
        method.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        method.classifier.bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    batch = Batch(torch.tensor([[2.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 1, 2), torch.tensor([0, 2]))
    loss, accuracy = method.training_step(batch)  # logits (2, 0, .5) and (0, 1, .5)
    first = np.log(np.exp(2) + 1 + np.exp(0.5)) - 2
    second = np.log(1 + np.exp(1) + np.exp(0.5)) - 0.5
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert accuracy.item() == 0.5
    smooth = Classifier(Features(), 3, label_smoothing=0.3)
    smooth.load_state_dict(method.state_dict())
    first += 0.3 * (2 - (2 + 0.5) / 3)  # a share of 0.3 of the target lies evenly on all three
    second += 0.3 * (0.5 - (1 + 0.5) / 3)
    assert smooth.training_step(batch)[0].item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_cosine_head_is_weight_normalisation():
    """Logits and gradients equal those of PyTorch's weight norm on normalised features, with changed norms."""
    generator = seeding.generator(0)
    features = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    with seeding.fork(0):
        ours, theirs = CosineClassifier(6, 5).double(), weight_norm(nn.Linear(6, 5, bias=False).double(), dim=0)
    norm, direction = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
    with torch.no_grad():
        norm.copy_(torch.rand(5, 1, generator=generator, dtype=torch.float64) + 0.5)
        direction.copy_(torch.randn(5, 6, generator=generator, dtype=torch.float64))
        ours.norm.copy_(norm)
        ours.direction.copy_(direction)
    expected = 2 * theirs(features / features.norm(dim=1, keepdim=True))
    torch.testing.assert_close(ours(features), expected)
    weights = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    (ours(features) * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.norm.grad, norm.grad)
    torch.testing.assert_close(ours.direction.grad, direction.grad)


def test_cosine_head_starts_as_a_plain_linear_layer_and_scales_by_the_number_of_classes():
    with seeding.fork(0):
        head = CosineClassifier(4, 3)
    with seeding.fork(0):
        weight = nn.Linear(4, 3, bias=False).weight
    torch.testing.assert_close(head(torch.eye(4)), 2 * weight.T)
    assert [CosineClassifier(4, n).scale for n in (200, 201)] == [2, 10]
    assert CosineClassifier(4, 300, scale=4).scale == 4


def test_options_of_the_classifier_are_checked():
    with pytest.raises(ConfigError, match="linear or cosine, got 'softmax'"):
        Classifier(Features(), 3, "softmax")
    with pytest.raises(ConfigError, match=r"got 3\.0 for a linear one"):
        Classifier(Features(), 3, "linear", scale=3.0)
    with pytest.raises(ConfigError, match=r"label_smoothing lies in \[0, 1\), got 1"):
        PretrainExperimentConfig(label_smoothing=1.0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_few_shot_head_is_the_cosine_to_mean_features(kind):
    method = classifier(classifier=kind).eval()
    support, query = (torch.rand(2, n, 7, generator=seeding.generator(n)) for n in (5, 3))
    labels = torch.tensor([[0, 1, 0, 1, -1], [1, 1, 0, 1, 0]])  # unequal shots, padding
    logits = method.head(support, labels, query, 3)
    for b in range(2):
        for c in range(2):
            mean = support[b][labels[b] == c].mean(0)
            torch.testing.assert_close(logits[b, :, c], 10 * F.cosine_similarity(query[b], mean[None]))
    assert logits[..., 2].isneginf().all()


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_gradient_reaches_every_parameter(kind, toy_sets):
    method = classifier(classifier=kind)
    (batch,) = make_stream(toy_sets[0], QUICK, CPU).iterate_passes(0)
    loss, accuracy = method.training_step(batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert not accuracy.requires_grad


@torch.no_grad()
def test_training_step_agrees_under_autocast(toy_sets):
    (batch,) = make_stream(toy_sets[0], QUICK, CPU).iterate_passes(0)
    method = classifier()
    exact = method.training_step(batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rough = method.training_step(batch)[0]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)


# ---------------------------------------------------------------- train


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_classification_raises_few_shot_accuracy_on_unseen_classes(kind, toy_sets):
    train_set, val_set, test_set = toy_sets
    method = classifier(classifier=kind)
    before = evaluate(method, test_set, EpisodeSpec(5, 1, 5), 300)
    result = train(method, train_set, val_set, replace(QUICK, max_steps=80, val_every_steps=20, lr=3e-3))
    after = evaluate(method, test_set, EpisodeSpec(5, 1, 5), 300)
    assert after.mean > before.mean + 2 * (after.half_width_95 + before.half_width_95)
    assert result.best_step in (20, 40, 60, 80)
    features = method.eval()
    with torch.no_grad():
        base = features.training_step(
            next(make_stream(train_set, replace(QUICK, batch_size=96), CPU).iterate_passes(0))
        )[1]
    assert base > 0.5  # of 12 base classes


def test_passes_equal_one_pass(toy_sets):
    weights = []
    for passes in (1, 4):
        method = classifier()
        for layer in method.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train = lambda mode=True: None  # stays in evaluation mode
                layer.training = False
        train(method, toy_sets[0], None, replace(QUICK, max_steps=3, accumulate_steps=passes, optimizer="sgd"))
        weights.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)


def test_step_schedule():
    config = PretrainConfig(schedule="step", max_steps=100, lr_milestones=[0.55, 0.9])
    factor = make_learning_rate_factor(config)
    assert [factor(s) for s in (0, 54, 55, 89, 90, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    with pytest.raises(ConfigError, match=r"lr_milestones are fractions of max_steps between 0 and 1, got \[90\]"):
        PretrainConfig(lr_milestones=[90])


RUN = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import striped
from fewshot import create_backbone, train
from fewshot.runtime import seeding
from fewshot.config import PretrainConfig
from fewshot.methods.base_classifier import Classifier
with seeding.fork(0, "test"):
    method = Classifier(create_backbone("conv4", 1, 16, n_filters=8), 12, {head!r})
config = PretrainConfig(run_dir={run_dir!r}, resume={resume}, max_steps=30, batch_size=20, val_n_query=3,
    val_episodes=30, val_every_steps=7, checkpoint_every_steps=3, augmentation={{"rotation_degrees": 20.0}},
    precision="float32", optimizer="sgd", lr=2e-3, average_decay={average})
train(method, striped(12, split="train"), striped(12, split="val", seed=1), config)
"""


def launched(
    folder: Path, name: str, processes: int = 1, resume: bool = False, head: str = "cosine"
) -> subprocess.Popen:
    script = folder / f"{name}.py"
    average = 0.9 if processes == 1 and head == "cosine" else 0.0
    text = RUN.format(
        tests=str(Path(__file__).parents[1]), run_dir=str(folder / name), resume=resume, head=head, average=average
    )
    script.write_text(text)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script)]
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_run_resumes_to_identical_weights(tmp_path):
    assert launched(tmp_path, "whole").wait() == 0, (tmp_path / "whole.log").read_text()[-3000:]
    killed = launched(tmp_path, "killed")
    last = tmp_path / "killed" / "last.safetensors"
    while not last.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert launched(tmp_path, "killed", resume=True).wait() == 0, (tmp_path / "killed.log").read_text()[-3000:]
    for file in ("last.safetensors", "best.safetensors"):
        whole, resumed = (load_checkpoint(tmp_path / run / file) for run in ("whole", "killed"))
        assert whole["progress"][:3] == resumed["progress"][:3]
        for part in ("method", "training"):
            assert all(torch.equal(whole[part][k], resumed[part][k]) for k in whole[part]), (file, part)


def test_two_processes_train_the_same_weights(tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        run = launched(tmp_path, name, processes, head="linear")
        assert run.wait() == 0, (tmp_path / f"{name}.log").read_text()[-3000:]
    one, two = (load_checkpoint(tmp_path / name / "last.safetensors")["method"] for name in ("one", "two"))
    initial = classifier().state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert (one["classifier.weight"] - initial["classifier.weight"]).abs().max() > 1e-3


# ---------------------------------------------------------------- no training


class Nearest(Method):
    """A method without a parameter, which keeps the mean feature of the base classes."""

    needs_base_features = True

    def __init__(self, backbone: nn.Module | None) -> None:
        super().__init__(backbone)
        self.register_buffer("mean", torch.zeros(getattr(backbone, "feature_dim", 1)))

    def learn_base_classes(self, features, labels):
        assert len(features) == len(labels)
        self.mean.copy_(features.mean(0))

    def head(self, support, support_labels, query, n_way):
        return create_method("protonet", None).head(support - self.mean, support_labels, query - self.mean, n_way)


@pytest.fixture
def nearest_is_registered(monkeypatch):
    monkeypatch.setitem(METHODS._factories, "keeps-the-mean", Nearest)


def test_without_steps_a_method_without_parameters_is_kept_as_it_is(toy_sets, tmp_path):
    method = Nearest(create_backbone("pixels", 1, 16))
    config = TrainConfig(max_steps=0, run_dir=str(tmp_path), val_n_query=3, val_episodes=30, precision="float32")
    assert not list(method.parameters())
    result = train(method, *toy_sets[:2], config)
    assert (result.steps, result.best_step) == (0, 0)
    for file in ("best.safetensors", "last.safetensors"):
        held = load_checkpoint(tmp_path / file)
        assert held["progress"][:3] == [0, 0, pytest.approx(result.validation.mean)]
        assert held["method"].keys() == method.state_dict().keys()
    again = train(method, *toy_sets[:2], replace(config, resume=True))
    assert again.validation.mean == result.validation.mean
    assert train(method, toy_sets[0], None, replace(config, run_dir=None)).validation is None


def test_without_steps_weights_stay(toy_sets):
    method, fresh = classifier(), classifier()
    train(method, *toy_sets[:2], replace(QUICK, max_steps=0))
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in method.state_dict().items())


# ---------------------------------------------------------------- stage 2 starts from stage 1

GLYPHS = dict(backbone_options={"n_filters": 8}, val_episodes=20, precision="float32", dataset_options={})


@pytest.fixture(scope="module")
def glyphs() -> ImageSet:
    return load_split(ExperimentConfig(), "train")


@pytest.fixture
def pretrained(tmp_path, glyphs) -> tuple[Path, Classifier]:
    """The folder of a run of one step that counts as ended, without training."""
    return stored_run(tmp_path / "pretrained", PretrainExperimentConfig(max_steps=1, **GLYPHS), glyphs)


def stored_run(
    folder: Path, config: PretrainExperimentConfig, glyphs: ImageSet, step: int = 1
) -> tuple[Path, Classifier]:
    config = replace(config, run_dir=str(folder))
    RunFolder(folder).claim(config, resume=False)
    method = build_classifier(replace(config, seed=5), glyphs.image_shape, 30)
    state = {"method": method.state_dict(), "progress": [step, 1, 0.5, 1.0], "image_shape": glyphs.image_shape}
    save_checkpoint(RunFolder(folder).last, state | {"n_classes": 30})
    return folder, method


def test_both_kinds_of_runs_can_be_loaded(pretrained, glyphs, tmp_path):
    folder, stored = pretrained
    method, config = load_run(folder)
    assert isinstance(config, PretrainExperimentConfig)
    assert all(torch.equal(tensor, method.state_dict()[name]) for name, tensor in stored.state_dict().items())
    episodic = ExperimentConfig(run_dir=str(tmp_path / "episodic"))
    RunFolder(tmp_path / "episodic").claim(episodic, resume=False)
    assert load_config(RunFolder(tmp_path / "episodic")) == episodic


def test_stage_two_starts_from_the_backbone_of_stage_one(pretrained, glyphs):
    folder, stored = pretrained
    config = ExperimentConfig(pretrained_run=str(folder), **GLYPHS)
    method, fresh = build_starting_method(config, glyphs), build_method(config, glyphs.image_shape)
    for name, tensor in method.backbone.state_dict().items():
        assert torch.equal(tensor, stored.backbone.state_dict()[name])
    assert not torch.equal(*(next(m.backbone.parameters()) for m in (method, fresh)))
    rows = build_compared_methods(method, config, glyphs)
    assert list(rows) == ["trained", "pretrained", "untrained", "raw pixels"]
    assert torch.equal(*(next(m.backbone.parameters()) for m in (rows["untrained"], fresh)))
    assert torch.equal(*(next(m.backbone.parameters()) for m in (rows["pretrained"], stored)))


def test_stage_two_may_look_at_views_of_what_stage_one_saw_once(pretrained, glyphs):
    folder, stored = pretrained
    viewed = GLYPHS["backbone_options"] | {"views": {"turns": 4}}
    config = ExperimentConfig(pretrained_run=str(folder), max_steps=0, **GLYPHS | {"backbone_options": viewed})
    source = build_starting_method(config, glyphs).backbone.source
    assert all(torch.equal(tensor, stored.backbone.state_dict()[name]) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("max_steps", [0, 5])
def test_rows_and_what_selected_them(pretrained, glyphs, tmp_path, max_steps):
    folder, _ = pretrained
    config = ExperimentConfig(run_dir=str(tmp_path / "b"), max_steps=max_steps, **GLYPHS)
    method = build_starting_method(config, glyphs)
    assert list(build_compared_methods(method, config, glyphs)) == (
        ["trained", "untrained", "raw pixels"] if max_steps else ["untrained", "raw pixels"]
    )
    RunFolder(tmp_path / "b").claim(config, resume=False)
    assert find_selected_on(folder) == "nothing: last step"
    (folder / "best.safetensors").write_bytes(b"")
    assert find_selected_on(folder) == "val"
    assert find_selected_on(tmp_path / "b") == ("nothing: last step" if max_steps else "nothing")
    assert find_selected_on(tmp_path / "b", "raw pixels") == "nothing"
    second = replace(config, run_dir=str(tmp_path / "c"), pretrained_run=str(folder))
    RunFolder(tmp_path / "c").claim(second, resume=False)
    assert find_selected_on(tmp_path / "c", "pretrained") == "val"
    assert find_selected_on(tmp_path / "c") == ("nothing: last step" if max_steps else "val")


def test_a_method_that_keeps_base_features_gets_them_in_every_row(glyphs, nearest_is_registered, pretrained):
    config = ExperimentConfig(method="keeps-the-mean", max_steps=0, pretrained_run=str(pretrained[0]), **GLYPHS)
    method = build_starting_method(config, glyphs)
    rows = build_compared_methods(method, config, glyphs)
    assert list(rows) == ["trained", "untrained", "raw pixels"]
    torch.testing.assert_close(
        rows["raw pixels"].mean, glyphs.gather(torch.arange(len(glyphs))).flatten(1).float().mean(0) / 255
    )
    assert (rows["untrained"].mean != 0).any()
    assert not torch.equal(rows["trained"].mean, rows["untrained"].mean)
    with pytest.raises(ConfigError, match="which would not match a backbone in training: set max_steps: 0"):
        build_starting_method(replace(config, max_steps=5), glyphs)


def test_a_method_that_needs_its_backbone_has_no_row_of_raw_pixels(glyphs, monkeypatch):
    class Choosy(Nearest):
        needs_base_features = False

        def __init__(self, backbone):
            super().__init__(backbone)
            if not list(backbone.parameters()):
                raise ConfigError("needs a backbone with weights")

    monkeypatch.setitem(METHODS._factories, "choosy", Choosy)
    config = ExperimentConfig(method="choosy", max_steps=5, **GLYPHS)
    assert list(build_compared_methods(build_starting_method(config, glyphs), config, glyphs)) == [
        "trained",
        "untrained",
    ]


@pytest.mark.parametrize(
    ("method", "has_row"), [("relation", False), ("anil", False), ("matching", True), ("r2d2", True)]
)
def test_a_method_with_weights_of_its_own_has_no_row_of_raw_pixels(glyphs, method, has_row):
    options = GLYPHS | ({"backbone": "conv4-relation"} if method == "relation" else {})
    config = ExperimentConfig(method=method, max_steps=5, **options)
    assert ("raw pixels" in build_compared_methods(build_starting_method(config, glyphs), config, glyphs)) is has_row


def test_a_missing_run_names_the_command_that_makes_it(glyphs, tmp_path):
    config = ExperimentConfig(pretrained_run=str(tmp_path / "pretrain_cosine"), **GLYPHS)
    command = f"python scripts/pretrain.py --config scripts/recipes/glyphs/pretrain_cosine.yaml --run_dir {tmp_path}"
    with pytest.raises(ConfigError, match=f"there is no such run; train it first: {re.escape(command)}"):
        build_starting_method(config, glyphs)


def test_another_backbone_is_refused(pretrained, glyphs, tmp_path):
    config = ExperimentConfig(pretrained_run=str(pretrained[0]), **GLYPHS)
    with pytest.raises(ConfigError, match=r"has the backbone conv4, this run resnet12"):
        build_starting_method(replace(config, backbone="resnet12", backbone_options={}), glyphs)
    with pytest.raises(
        ConfigError, match=r"weights differ, body.blocks.0.0.weight is \(8, 1, 3, 3\) there and \(16, 1"
    ):
        build_starting_method(replace(config, backbone_options={"n_filters": 16}), glyphs)


@pytest.mark.parametrize("published", ["first", "second"])
def test_images_prepared_in_another_way_are_refused(glyphs, tmp_path, published):
    plain = GLYPHS["backbone_options"]
    options = {"first": plain, "second": plain} | {published: plain | {"weights": "net.safetensors"}}
    first = PretrainExperimentConfig(run_dir=str(tmp_path), **GLYPHS | {"backbone_options": options["first"]})
    RunFolder(tmp_path).claim(first, resume=False)
    second = ExperimentConfig(pretrained_run=str(tmp_path), **GLYPHS | {"backbone_options": options["second"]})
    method = build_method(replace(second, backbone_options=plain), glyphs.image_shape)
    with pytest.raises(ConfigError, match=r"give pretrained and weights as in that run"):
        load_pretrained(method, second)


def test_an_unfinished_run_is_refused(glyphs, tmp_path):
    config = PretrainExperimentConfig(max_steps=9, **GLYPHS)
    folder, _ = stored_run(tmp_path / "unfinished", config, glyphs, step=4)
    with pytest.raises(ConfigError, match="has not ended: step 4 of 9; continue it with --resume"):
        build_starting_method(ExperimentConfig(pretrained_run=str(folder), **GLYPHS), glyphs)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_run_that_saw_held_out_classes_is_refused(glyphs, tmp_path, split):
    config = PretrainExperimentConfig(max_steps=1, train_split=split, **GLYPHS)
    folder, _ = stored_run(tmp_path / "seen", config, glyphs)
    second = ExperimentConfig(pretrained_run=str(folder), **GLYPHS)
    with pytest.raises(LeakageError, match=rf"was trained on \d+ classes of ImageSet\(glyphs/{split}"):
        build_starting_method(second, glyphs)
    between = tmp_path / "between"  # neither may a run that started from such a one
    RunFolder(between).claim(replace(second, run_dir=str(between)), resume=False)
    with pytest.raises(LeakageError, match=rf"was trained on \d+ classes of ImageSet\(glyphs/{split}"):
        build_starting_method(replace(second, pretrained_run=str(between)), glyphs)


def test_other_options_of_the_data_set_compare_the_classes(glyphs, tmp_path, monkeypatch):
    """With other dataset_options, the training split of stage 1 can contain test classes of this run."""
    config = PretrainExperimentConfig(max_steps=1, **GLYPHS)
    folder, _ = stored_run(tmp_path / "other", replace(config, dataset_options={"image_px": 28}), glyphs)
    second = ExperimentConfig(pretrained_run=str(folder), **GLYPHS)
    build_starting_method(second, glyphs)  # other options, the same classes
    swapped = {"train": "test", "val": "val", "test": "train"}

    def load(config, split, **changes):
        return load_split(replace(config, dataset_options={}), swapped[split] if config.dataset_options else split)

    monkeypatch.setattr("fewshot.experiments.starting.load_split", load)
    with pytest.raises(LeakageError, match=r"was trained on \d+ classes of ImageSet\(glyphs/test"):
        build_starting_method(second, glyphs)


# ---------------------------------------------------------------- the scripts


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_scripts_from_stage_one_to_stage_two(tmp_path):
    few = ["--val_episodes", 10, "--test_episodes", 20, "--backbone_options", '{"n_filters": 8}']
    first = run("pretrain.py", *few, "--max_steps", 4, "--batch_size", 32, "--run_dir", tmp_path / "one")
    assert first.returncode == 0, first.stderr
    assert re.search(r"\nclassifier-baseline +\d+\.\d\d ± \d+\.\d\d +\d+\.\d\d ± \d+\.\d\d", first.stdout)
    assert "4 steps in" in first.stdout
    assert "weights selected on val" in first.stdout
    start = ["--pretrained_run", tmp_path / "one"]
    kept = run("train_episodic.py", *few, *start, "--max_steps", 0, "--run_dir", tmp_path / "kept")
    assert kept.returncode == 0, kept.stderr
    assert "no episodic training" in kept.stdout
    assert "weights selected on val" in kept.stdout
    trained = run(
        "train_episodic.py", *few, *start, "--max_steps", 3, "--train_n_way", 5, "--run_dir", tmp_path / "two"
    )
    assert trained.returncode == 0, trained.stderr
    rows = [line.split("  ")[0] for line in trained.stdout.splitlines() if "±" in line]
    assert rows[:4] == ["trained", "pretrained", "untrained", "raw pixels"]
    held = [load_checkpoint(tmp_path / name / "best.safetensors")["method"] for name in ("one", "kept", "two")]
    weight = "backbone.body.blocks.0.0.weight"
    assert torch.equal(held[0][weight], held[1][weight])
    assert not torch.equal(held[0][weight], held[2][weight])
    for name, shown in (("one", first.stdout), ("kept", kept.stdout)):
        again = run("evaluate.py", "--run_dir", tmp_path / name, "--n_episodes", 20)
        assert again.returncode == 0, again.stderr
        assert re.search(r"(\d+\.\d\d ± \d+\.\d\d)", again.stdout)[1] in shown
        assert "weights selected on val" in again.stdout


def test_a_missing_stage_one_is_said_before_a_run_folder_is_made(tmp_path):
    arguments = ["--pretrained_run", tmp_path / "none", "--run_dir", tmp_path / "run"]
    result = run("train_episodic.py", *arguments)
    assert result.returncode == 2
    assert "train it first: python scripts/pretrain.py --config scripts/recipes/glyphs/pretrain.yaml" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


assert striped  # used by the launched runs


def test_a_variant_is_the_same_weights_with_other_options(glyphs):
    options = {"n_way": 5, "inner_steps": 1}
    config = ExperimentConfig(method="maml", method_options=options, max_steps=5, test_episodes=3, **GLYPHS)
    config.test_variants = {"transductive": {"transductive": True}}
    method = build_starting_method(config, glyphs)
    rows = build_compared_methods(method, config, glyphs)
    assert list(rows) == ["trained", "transductive", "untrained"]
    assert rows["transductive"].transductive
    assert not method.transductive
    for name, tensor in method.state_dict().items():
        torch.testing.assert_close(rows["transductive"].state_dict()[name], tensor, rtol=0, atol=0)
    config.test_variants = {"untrained": {}}
    with pytest.raises(ConfigError, match="test_variants: 'untrained' is a row of every test table already"):
        build_compared_methods(method, config, glyphs)


def test_a_variant_may_have_other_queries(glyphs):
    config = ExperimentConfig(method="maml", max_steps=5, test_n_shot=[1, 5], test_n_query=15, **GLYPHS)
    config.test_variants = {"as published": {"transductive": True, "n_query": "shots"}, "short": {"n_query": 2}}
    rows = build_compared_methods(build_starting_method(config, glyphs), config, glyphs)
    assert rows["as published"].transductive
    assert [(cell.n_shot, cell.n_query) for cell in list_cells(config, "trained")] == [(1, 15), (5, 15)]
    assert [(cell.n_shot, cell.n_query) for cell in list_cells(config, "as published")] == [(1, 1), (5, 5)]
    assert [(cell.n_shot, cell.n_query) for cell in list_cells(config, "short")] == [(1, 2), (5, 2)]
    for n_query, error, message in [
        ("many", ConfigError, "test_variants: short: n_query is a number or \"shots\", got 'many'"),
        (0, EpisodeError, "n_query must be a number of at least 1"),
        (500, EpisodeError, "501 images"),
    ]:
        config.test_variants = {"short": {"n_query": n_query}}
        with pytest.raises(error, match=message):  # before training
            build.load_test_sets(config)


def test_measuring_goes_on_where_it_was_cut_off(glyphs, tmp_path, monkeypatch):
    """A cell on disk is read, unless weights, options, episodes or code differ."""
    measured, code = [], ["abc"]
    monkeypatch.setattr(provenance, "find_commit", lambda: code[0])
    monkeypatch.setattr(build, "find_commit", lambda: code[0])

    def counting(method, imageset, cell, *others, **more):
        measured.append(cell.n_shot)
        return evaluate(method, imageset, cell, *others, **more)

    monkeypatch.setattr(build, "evaluate", counting)
    config = ExperimentConfig(max_steps=5, test_episodes=9, test_n_shot=[1, 5], run_dir=str(tmp_path), **GLYPHS)
    config.test_variants = {"trained": {"temperature": 2.0}}
    method = build_starting_method(config, glyphs)

    def measured_now() -> list[int]:
        measured.clear()
        cells = list_cells(config, "trained")
        files = build.list_record_files(config, "", "trained", cells)
        records = build.measure(method, glyphs, cells, config, "val", files)
        for file, record in zip(files, records, strict=True):
            np.testing.assert_array_equal(Records.read(file).accuracy, record.accuracy)
            np.testing.assert_array_equal(evaluate(method, glyphs, record_spec(record), 9).accuracy, record.accuracy)
        return list(measured)

    assert measured_now() == [1, 5]
    assert measured_now() == []
    cut = tmp_path / "records" / "trained-5-way-5-shot.jsonl"
    cut.write_text(cut.read_text()[:-20])
    assert measured_now() == [5]
    with torch.no_grad():
        next(method.parameters()).add_(0.1)
    assert measured_now() == [1, 5]
    config.test_n_query = 4
    assert measured_now() == [1, 5]
    config.test_variants = {"trained": {"temperature": 3.0}}
    assert measured_now() == [1, 5]
    config.test_variants = {"trained": {"temperature": 3.0}, "more": {}}
    assert measured_now() == []
    for now in ("abd", "abd+", "abd+"):  # + says that files differ from the commit: nobody knows how
        code[0] = now
        assert measured_now() == [1, 5]


def record_spec(record: Records) -> EpisodeSpec:
    return EpisodeSpec(**record.header.spec)


def test_without_the_floor_only_the_method_is_measured(glyphs):
    config = ExperimentConfig(max_steps=5, test_floor=False, **GLYPHS)
    method = build_starting_method(config, glyphs)
    assert list(build_compared_methods(method, config, glyphs)) == ["trained"]
    assert list(build_compared_methods(method, replace(config, test_floor=True), glyphs)) == [
        "trained", "untrained", "raw pixels",
    ]  # fmt: skip


def test_published_weights_are_called_frozen(glyphs, monkeypatch):
    config = ExperimentConfig(max_steps=5, **GLYPHS)

    def build(*arguments):
        return build_method(replace(config), (1, 28, 28))

    monkeypatch.setattr("fewshot.experiments.starting.build_method", build)
    published = replace(config, backbone_options={"pretrained": True})
    method = build_method(config, (1, 28, 28))
    assert list(build_compared_methods(method, published, glyphs)) == ["trained", "frozen", "raw pixels"]
    assert next(iter(build_compared_methods(method, replace(published, max_steps=0), glyphs))) == "frozen"
