"""Fine-tuning: heads and descents compared with other solvers, early stopping, views, and what must not change."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from fewshot import create_backbone, create_method
from fewshot.errors import CheckpointError, ConfigError, DataError, FewShotError, TrainingError, UnknownNameError
from fewshot.images.augment import Augmentation
from fewshot.methods.finetune.support import hold_out, order_support
from fewshot.runtime import seeding

WAY, SHOT, SIDE = 3, 4, 16
TURNS = {"rotation_degrees": 20.0, "colour": 0.2}


class Flat(nn.Module):
    """The features of images (n, 3, 1, 1) are their values."""

    feature_dim = 3

    def forward(self, images):
        return images.flatten(1)


def network(dtype=torch.float32):
    with seeding.fork(0, "test"):
        return create_backbone("conv4", 1, SIDE, n_filters=4).to(dtype)


def support(shot=SHOT, n_way=WAY, seed=0):
    """Images (n, 1, SIDE, SIDE) uint8 and labels (n,): stripes of a width and noise."""
    generator = seeding.generator(seed, "test")
    labels = torch.arange(n_way).repeat_interleave(shot)
    stripes = (torch.arange(SIDE) // (labels[:, None] + 1)) % 2  # (n, SIDE)
    noise = torch.randint(0, 120, (len(labels), 1, SIDE, SIDE), generator=generator)
    return (stripes[:, None, None, :] * 120 + noise).to(torch.uint8), labels


def points(n=15, seed=0):
    """Prepared images (n, 3, 1, 1) float64 in three overlapping classes."""
    generator = seeding.generator(seed, "points")
    labels = torch.arange(n) % WAY
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64) + 5 + F.one_hot(labels, 3)
    return x[..., None, None], labels


def finetune(backbone=None, **options):
    return create_method("finetune", network() if backbone is None else backbone, **options).eval()


# ---------------------------------------------------------------- heads and descents, against other solvers


@pytest.mark.parametrize("start", ["prototypes", "zero"])
def test_a_linear_probe_ends_as_logistic_regression(start):
    images, labels = points()
    method = finetune(
        Flat(), steps=600, optimizer="sgd", schedule="constant", head_lr=1.0, weight_decay=0.02, head_start=start
    )
    probabilities = method.fit_support(images, labels, WAY).logits(images).softmax(1)
    x = images.flatten(1).numpy()
    x = x - x.mean(0)
    x /= np.sqrt((x**2).sum(1).mean())
    oracle = LogisticRegression(C=1 / (15 * 0.02), tol=1e-10, max_iter=10_000).fit(x, labels.numpy())
    np.testing.assert_allclose(probabilities.numpy(), oracle.predict_proba(x), atol=1e-6)


def test_a_cosine_head_ends_where_a_plain_loop_does():
    images, labels = points()
    x = images.flatten(1) / images.flatten(1).norm(dim=1, keepdim=True)
    w = torch.stack([x[labels == c].mean(0) for c in range(WAY)])
    w = (w / w.norm(dim=1, keepdim=True)).requires_grad_()
    optimizer = torch.optim.AdamW([w], lr=0.05, weight_decay=0.01)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 5)) / 2
        loss = F.cross_entropy(7 * x @ (w / w.norm(dim=1, keepdim=True)).T, labels)
        (w.grad,) = torch.autograd.grad(loss, w)
        optimizer.step()
    fitted = finetune(Flat(), mode="cosine", steps=5, head_lr=0.05, scale=7.0).fit_support(images, labels, WAY)
    torch.testing.assert_close(fitted.network.head.weight, w, rtol=0, atol=1e-12)


def test_without_steps_it_is_protonet_or_imprinted_weights():
    images, labels = points()
    x, queries = images.flatten(1), points(seed=1)[0]
    means = torch.stack([x[labels == c].mean(0) for c in range(WAY)])
    spread = (x - x.mean(0)).square().sum(1).mean()
    squared = (queries.flatten(1)[:, None] - means).square().sum(-1)  # (15, WAY)
    logits = finetune(Flat(), steps=0).fit_support(images, labels, WAY).logits(queries)
    torch.testing.assert_close(logits.softmax(1), (-squared / spread).softmax(1))

    unit = torch.stack([F.normalize(x, dim=1)[labels == c].mean(0) for c in range(WAY)])
    cosines = F.cosine_similarity(queries.flatten(1)[:, None], unit, dim=-1)
    logits = finetune(Flat(), mode="cosine", steps=0, scale=7.0).fit_support(images, labels, WAY).logits(queries)
    torch.testing.assert_close(logits, 7 * cosines)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_full_is_a_plain_loop(optimizer):
    backbone, (images, labels) = network(torch.float64), support()
    images = backbone.prepare(images).double()
    options = {"lr": 0.02, "head_lr": 0.1, "weight_decay": 0.1, "layer_decay": 0.5, "steps": 4}
    fitted = finetune(backbone, mode="full", optimizer=optimizer, **options).fit_support(images, labels, WAY)

    ours = copy.deepcopy(backbone).eval()
    start = ours(images).detach()
    centre = start.mean(0)
    length = (start - centre).square().sum(1).mean().sqrt()
    means = torch.stack([((start - centre) / length)[labels == c].mean(0) for c in range(WAY)])
    weight, bias = (2 * means).requires_grad_(), (-means.square().sum(1)).requires_grad_()
    groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.1}, {"params": [bias], "lr": 0.1, "weight_decay": 0.0}]
    for name, p in ours.named_parameters():  # body.blocks.<i>.…: half the rate for each block from the end
        rate = 0.02 * 0.5 ** (4 - int(name.split(".")[2]))
        groups.append({"params": [p], "lr": rate, "weight_decay": 0.1 if p.ndim > 1 else 0.0})
    kind = torch.optim.AdamW if optimizer == "adamw" else lambda groups: torch.optim.SGD(groups, lr=1, momentum=0.9)
    descent, rates = kind(groups), [group["lr"] for group in groups]
    for step in range(4):
        for group, rate in zip(descent.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * step / 4)) / 2
        loss = F.cross_entropy((ours(images) - centre) / length @ weight.T + bias, labels)
        descent.zero_grad()
        loss.backward()
        descent.step()
    for name, p in ours.named_parameters():
        torch.testing.assert_close(fitted.network.backbone.get_parameter(name), p, rtol=0, atol=1e-9)
        assert not torch.equal(p, backbone.get_parameter(name))
    torch.testing.assert_close(fitted.network.head.weight, weight, rtol=0, atol=1e-9)


def test_a_loss_reaches_the_backbone_through_the_adapted_weights():
    method, (images, labels) = finetune(mode="full", steps=2, lr=0.01), support()
    queries, _ = support(seed=1)
    method.train()
    loss = F.cross_entropy(method(images[None], labels[None], queries[None], WAY)[0], labels)
    loss.backward()
    fitted = method.fit_support(images, labels, WAY)
    F.cross_entropy(fitted.network(queries), labels).backward()
    for name, weight in method.backbone.named_parameters():
        torch.testing.assert_close(weight.grad, fitted.network.backbone.get_parameter(name).grad, rtol=1e-4, atol=1e-6)


def test_bf16_descends_too():
    images, labels = support()
    answers = {}
    for name, steps in (("start", 0), ("float32", 8), ("bfloat16", 8)):
        method = finetune(mode="full", steps=steps, lr=0.02, head_lr=1e-6)  # the network does the work
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            answers[name] = method.fit_support(images, labels, WAY).logits(images).softmax(1)
    moved = (answers["float32"] - answers["start"]).abs().mean()
    assert (answers["bfloat16"] - answers["float32"]).abs().mean() < 0.2 * moved


# ---------------------------------------------------------------- episodes


@torch.no_grad()
def test_a_class_without_support_takes_no_part():
    method, (images, labels) = finetune(mode="full", steps=2), support()
    logits = method.fit_support(images, torch.tensor([0, 3, 1])[labels], 4).logits(images)
    assert (logits[:, 2] == -torch.inf).all()
    expected = method.fit_support(images, labels, WAY).logits(images)
    torch.testing.assert_close(logits[:, [0, 3, 1]], expected)


def test_the_order_of_the_support_is_free_whatever_is_drawn():
    (images, labels), (queries, _) = support(), support(seed=1)
    options = {"dropout": 0.3, "augmentation": TURNS, "batch_images": 5, "early_stopping": 0.25, "steps": 4}
    method = finetune(mode="batchnorm", lr=0.02, **options)
    first = method.fit_support(images, labels, WAY)
    order = torch.randperm(len(labels), generator=seeding.generator(1, "test"))
    names = torch.tensor([2, 0, 1])
    second = method.fit_support(images[order], names[labels[order]], WAY)
    assert first.n_held_out == WAY
    assert (first.n_steps, first.n_held_out) == (second.n_steps, second.n_held_out)
    torch.testing.assert_close(second.logits(queries)[:, names], first.logits(queries), rtol=1e-3, atol=1e-4)
    drawn_anew = finetune(mode="batchnorm", lr=0.02, seed=1, **options).fit_support(images, labels, WAY)
    assert not torch.allclose(drawn_anew.logits(queries), first.logits(queries), rtol=1e-3, atol=1e-4)


def test_dropout_and_augmentation_take_part():
    images, labels = support()
    plain, dropped, turned = (
        finetune(steps=3, **options).fit_support(images, labels, WAY).logits(images)
        for options in ({}, {"dropout": 0.5}, {"augmentation": TURNS})
    )
    assert not torch.allclose(plain, dropped)
    assert not torch.allclose(plain, turned)


def test_views_are_averaged_and_each_query_stands_alone():
    (images, labels), (queries, _) = support(), support(seed=1)
    fitted = finetune(steps=1, augmentation=TURNS, test_views=2, batch_images=5).fit_support(images, labels, WAY)
    logits = fitted.logits(queries)
    alone = torch.cat([fitted.logits(query) for query in queries.split(1)])
    torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-5)
    turn, views = Augmentation(**TURNS), [queries[:1]]
    views += [turn(queries[:1], seeding.generator(0, "finetune view", number)) for number in range(2)]
    assert not torch.equal(views[1], views[2])
    expected = torch.stack([fitted.network(view) for view in views]).mean(0)
    torch.testing.assert_close(logits[:1], expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_left_behind_even_after_an_error():
    backbone, (images, labels) = network().train(), support()
    before = copy.deepcopy(backbone.state_dict())
    method = create_method("finetune", backbone, mode="full", steps=5, lr=1e30, optimizer="sgd")
    with pytest.raises(TrainingError, match=r"mode 'full': the loss is .* lower lr \(1e\+30\)"):
        method.fit_support(images, labels, WAY)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in backbone.parameters())
    assert all(module.training for module in backbone.modules())


# ---------------------------------------------------------------- early stopping


def test_the_step_is_the_best_on_held_out_images_and_all_are_trained_on():
    images, labels = points(30)
    options = {"optimizer": "sgd", "schedule": "constant", "head_lr": 5.0, "weight_decay": 0.0}
    fitted = finetune(Flat(), early_stopping=0.3, patience_steps=12, steps=12, **options).fit_support(images, labels, 3)
    own = order_support(images, labels, WAY, None, 0)
    out = hold_out(own, 0.3)
    assert fitted.n_held_out == int(out.sum()) == 9
    losses = []
    for steps in range(13):
        trained = finetune(Flat(), steps=steps, **options).fit_support(own.images[~out], own.labels[~out], WAY)
        losses.append(float(F.cross_entropy(trained.logits(own.images[out]), own.labels[out])))
    assert fitted.n_steps == int(np.argmin(losses))
    assert 0 < fitted.n_steps < 12  # or the case shows nothing
    whole = finetune(Flat(), steps=fitted.n_steps, **options).fit_support(images, labels, WAY)
    torch.testing.assert_close(fitted.logits(images), whole.logits(images))


def test_patience_ends_the_search():
    images, labels = points(30)
    options = {"optimizer": "sgd", "schedule": "constant", "head_lr": 5.0, "early_stopping": 0.3}
    fitted = finetune(Flat(), steps=10**6, patience_steps=3, **options).fit_support(images, labels, WAY)
    assert fitted.n_steps < 100


@pytest.mark.parametrize(
    ("counts", "groups", "expected"),
    [
        ([4, 4, 4], None, [1, 1, 1]),
        ([8, 4, 1], None, [2, 1, 0]),  # one image: it stays
        ([1, 1, 1], None, [0, 0, 0]),
        ([4, 4], "aabb" "ccdd", [2, 2]),  # whole groups, though a fraction of 1/4 asks for one image
        ([4, 4], "aaaa" "bbcc", [0, 2]),  # one group: it stays
        ([2, 2], "ab" "ab", [1, 1]),  # a group with both classes
    ],
)  # fmt: skip
def test_what_is_held_out(counts, groups, expected):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randn(len(labels), 3, 1, 1, generator=seeding.generator(0, "test"))
    own = order_support(images, labels, len(counts), groups and list(groups), 0)
    out = hold_out(own, 0.25)
    assert own.labels[out].bincount(minlength=len(counts)).tolist() == expected
    assert not set(own.groups[out].tolist()) & set(own.groups[~out].tolist())


def test_groups_reach_early_stopping():
    images, labels = support()
    method = finetune(steps=2, early_stopping=0.25)
    groups = ["a", "a", "b", "b"] * WAY  # two photographs with every class
    assert method.fit_support(images, labels, WAY).n_held_out == 3
    assert method.fit_support(images, labels, WAY, groups).n_held_out == 6


# ---------------------------------------------------------------- states and errors


def test_a_state_of_other_options_is_refused():
    images, labels = support()
    state = finetune(mode="batchnorm", steps=1).fit_support(images, labels, WAY).state
    with pytest.raises(CheckpointError, match="not of mode 'bias' with 3 classes"):
        finetune(mode="bias").restore(state, WAY)
    with pytest.raises(CheckpointError, match="with 4 classes"):
        finetune(mode="batchnorm").restore(state, 4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "fulll"),
        ("steps", -1),
        ("steps", 2.5),
        ("lr", 0.0),
        ("lr", math.nan),
        ("head_lr", -1),
        ("weight_decay", -0.1),
        ("dropout", 1.0),
        ("layer_decay", 1.5),
        ("early_stopping", 1.0),
        ("patience_steps", 0),
        ("test_views", 3),
        ("head_start", "random"),
        ("classifier", "svm"),
        ("scale", 0),
        ("n_blocks", 0),
        ("lora_rank", 0),
        ("lora_alpha", 0),
        ("adapter_width", 0),
        ("n_prompts", True),
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("batch_images", 0),
    ],
)
def test_a_bad_option_is_named(option, value):
    with pytest.raises(ConfigError, match=rf"finetune'?: {option} .*{value}"):
        finetune(Flat(), **{option: value})


def test_options_that_contradict_each_other():
    with pytest.raises(ConfigError, match="mode 'linear' is a linear head, got classifier='cosine'"):
        finetune(Flat(), mode="linear", classifier="cosine")
    with pytest.raises(ConfigError, match="head_start='zero'"):
        finetune(Flat(), mode="full", classifier="cosine", head_start="zero")
    with pytest.raises(UnknownNameError, match="rotation_degrees"):
        finetune(Flat(), augmentation={"rotation_degree": 3.0})
    with pytest.raises(ConfigError, match="needs a backbone"):
        create_method("finetune", None)


def test_support_sets_that_cannot_be():
    images, labels = support()
    method = finetune(steps=1, augmentation=TURNS)
    for bad, reason in (
        ((images[:0], labels[:0], WAY), "no images"),
        ((images, labels[:3], WAY), r"12 support images, labels \(3,\)"),
        ((images, labels, WAY, ["a"]), "1 groups"),
        ((images, labels, 2), "labels run from 0 to 1, got 0 to 2"),
    ):
        with pytest.raises(DataError, match=reason):
            method.fit_support(*bad)
    with pytest.raises(FewShotError, match=r"augmentation needs uint8 images, got torch.float32"):
        method.fit_support(images.float(), labels, WAY)
