"""MAML and ANIL compared with plain loops and learn2learn in float64: orders, steps, masks and modes."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from maml_oracle import batch_statistics, learn2learn_maml, plain_maml
from torch.nn import functional as F

from fewshot import Episode, create_backbone, create_method
from fewshot.errors import ConfigError, EpisodeError
from fewshot.runtime import seeding

TASKS, WAY, SHOT, QUERIES = 3, 4, 2, 8


def maml(name="maml", **options):
    with seeding.fork(0, "test"):
        method = create_method(name, create_backbone("conv4", 1, 16, n_filters=4), n_way=WAY, **options)
    return method.double().train()


def episodes(n_tasks=TASKS) -> Episode:
    generator = seeding.generator(0, "maml episodes")
    labels = torch.arange(WAY).repeat(SHOT).expand(n_tasks, -1)
    support, query = (
        torch.rand(n_tasks, n, 1, 16, 16, dtype=torch.float64, generator=generator) for n in (WAY * SHOT, QUERIES)
    )
    return Episode(support, labels, query, torch.arange(WAY).repeat(2).expand(n_tasks, -1), WAY, labels[:, :WAY])


def oracle_of(method, loop, **options):
    """Adapted weights, query logits and meta-gradients (by name) from a loop over the episodes."""
    batch, network = episodes(), copy.deepcopy(method)
    backbone = batch_statistics(network.backbone)
    leaves = {f"backbone.{key}": p for key, p in backbone.named_parameters()}
    leaves |= {f"classifier.{key}": p for key, p in network.classifier.named_parameters()}
    rows = [
        loop(backbone, leaves["classifier.weight"], leaves["classifier.bias"], *row, **options)
        for row in zip(batch.support, batch.support_labels, batch.query, strict=True)
    ]
    logits = torch.stack([row[1] for row in rows])
    loss = F.cross_entropy(logits.flatten(0, 1), batch.query_labels.flatten())
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    return [row[0] for row in rows], logits, loss, gradients


@pytest.mark.parametrize("oracle", [plain_maml, learn2learn_maml], ids=["plain loop", "learn2learn"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("reduction", ["sum/K", "mean"])
def test_maml_equals_the_oracles(oracle, order, steps, reduction):
    if oracle is learn2learn_maml:
        pytest.importorskip("learn2learn", reason="learn2learn is not installed: make learn2learn")
    method = maml(order=order, inner_steps=steps, inner_lr=0.1, inner_reduction=reduction, adapt_norm=True,
                  transductive=True, tasks_at_once=2)  # fmt: skip
    options = dict(order=order, steps=steps, lr=0.1, reduction=reduction)
    adapted, logits, loss, gradients = oracle_of(method, oracle, **options)
    batch = episodes()
    ours = method.adapt_weights(batch.support, batch.support_labels, WAY, steps)
    assert ours.keys() == adapted[0].keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, torch.stack([row[name] for row in adapted]), rtol=1e-8, atol=1e-8)
    our_loss, our_logits = method.loss_and_logits(batch)
    torch.testing.assert_close(our_logits, logits, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(our_loss, loss, rtol=1e-8, atol=1e-8)
    our_loss.backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(method.get_parameter(name).grad, gradient, rtol=1e-7, atol=1e-8, msg=name)


@pytest.mark.parametrize("order", [1, 2])
def test_gradient_group_by_group_is_that_of_the_whole_graph(order):
    method, batch = maml(order=order, inner_steps=2, learn_inner_lr=True, tasks_at_once=2), episodes()
    (3 * method.loss(batch)).backward()
    grouped = {name: p.grad.clone() for name, p in method.named_parameters()}
    method.zero_grad()
    logits = method(batch.support, batch.support_labels, batch.query, WAY)
    (3 * F.cross_entropy(logits.flatten(0, 1), batch.query_labels.flatten())).backward()
    for name, p in method.named_parameters():
        torch.testing.assert_close(grouped[name], p.grad, rtol=1e-8, atol=1e-10)


def test_meta_sgd_rates_against_finite_differences():
    method, batch = maml(inner_steps=2, learn_inner_lr=True), episodes(1)
    method.loss(batch).backward()
    for rate in (method.inner_rates[0], method.inner_rates[-1]):
        place = (0,) * rate.ndim
        losses = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                rate[place] += step
                losses.append(float(method.loss(batch)))
                rate[place] -= step
        assert float(rate.grad[place]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_first_order_keeps_no_second_order_graph():
    """After the inner loop only weights are kept for the backward pass, not the graph of the gradients."""

    def saved_numbers(order):
        method, batch, sizes = maml(order=order, inner_steps=5, transductive=True), episodes(), []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t)
        weights = method.adapt_weights(batch.support, batch.support_labels, WAY, 5)
        seen, stack = set(), [w.grad_fn for w in weights.values()]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [parent for parent, _ in node.next_functions]
        del hooks
        return {type(node).__name__ for node in seen}

    assert "ConvolutionBackward" not in saved_numbers(1)
    assert "ConvolutionBackward" in saved_numbers(2)


@pytest.mark.parametrize(
    ("name", "options"),
    [("maml", {}), ("maml", {"transductive": True}), ("anil", {}), ("anil", {"transductive": True}),
     ("anil", {"support_statistics": True})],
)  # fmt: skip
def test_other_queries_matter_only_if_transductive(name, options):
    method, batch = maml(name, inner_steps=2, **options).eval(), episodes()
    with torch.no_grad():
        logits = method(batch.support, batch.support_labels, batch.query, WAY)
        fewer = method(batch.support, batch.support_labels, batch.query[:, :3], WAY)
    assert torch.allclose(logits[:, :3], fewer, rtol=1e-9, atol=1e-9) is not method.transductive


@pytest.mark.parametrize("name", ["maml", "anil"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("transductive", [True, False])
def test_the_method_is_left_unchanged(name, training, transductive):
    method, batch = maml(name, transductive=transductive).train(training), episodes()
    modes = [module.training for module in method.modules()]
    before = copy.deepcopy(method.state_dict())
    method.loss(batch)
    after = method.state_dict()
    if name == "anil" and training and not transductive:  # ordinary batch normalisation counts, as in any network
        after = {key: value for key, value in after.items() if "running" not in key and "num_batches" not in key}
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert [module.training for module in method.modules()] == modes


@pytest.mark.parametrize("transductive", [False, True])
def test_an_episode_known_to_be_unpadded_is_not_searched_for_padding(monkeypatch, transductive):
    method, batch = maml(transductive=transductive), episodes()
    loss = method.loss(batch)
    monkeypatch.setattr("fewshot.methods.maml.drop_full_mask", lambda mask: pytest.fail("asked of the device"))
    assert torch.equal(method.loss(replace(batch, unpadded=True)), loss)


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_padding_absent_classes_and_unequal_shots(name):
    method, batch = maml(name, inner_steps=2).eval(), episodes()
    labels = batch.support_labels.clone()
    labels[:, [1, 2, 6]] = -1  # class 2 is gone, class 1 has one image
    keep = labels[0] != -1
    with torch.no_grad():
        logits = method(batch.support, labels, batch.query, WAY)
        cut = method(batch.support[:, keep], labels[:, keep], batch.query, WAY)
    assert (logits[..., 2] == -torch.inf).all()
    torch.testing.assert_close(logits, cut, rtol=1e-9, atol=1e-9)


def test_anil_by_support_statistics_is_maml_with_a_frozen_backbone():
    batch, anil, frozen = episodes(), maml("anil", inner_steps=2, support_statistics=True), maml(inner_steps=2)
    frozen.load_state_dict(anil.state_dict())
    frozen.backbone.requires_grad_(False)
    arguments = (batch.support, batch.support_labels, batch.query, WAY)
    with torch.no_grad():
        logits = anil.eval()(*arguments)
        torch.testing.assert_close(logits, frozen.eval()(*arguments))
        anil.support_statistics = False
        assert not torch.allclose(logits, anil(*arguments))


def test_anil_embeds_an_image_once_where_its_features_are_the_same_in_every_episode():
    batch, method = episodes(), maml("anil", inner_steps=2).eval()
    assert method.uses_features
    assert not maml("anil", support_statistics=True).uses_features
    assert not maml("anil", transductive=True).uses_features
    with torch.no_grad():
        logits = method(batch.support, batch.support_labels, batch.query, WAY)
        features = [method.encode(images) for images in (batch.support, batch.query)]
        torch.testing.assert_close(method.head(features[0], batch.support_labels, features[1], WAY), logits)


def test_steps_at_test_differ_from_those_in_training():
    batch = episodes()
    method = maml(inner_steps=1, test_inner_steps=3)
    three = maml(inner_steps=3).eval()
    with torch.no_grad():
        arguments = (batch.support, batch.support_labels, batch.query, WAY)
        torch.testing.assert_close(method.eval()(*arguments), three(*arguments))
        assert not torch.allclose(method.train()(*arguments), three(*arguments))


def plain_head(classifier, features, labels, order, steps):
    weight, bias = classifier.weight, classifier.bias
    for _ in range(steps):
        inner = F.cross_entropy(features @ weight.T + bias, labels) * WAY  # sum / K
        of_weight, of_bias = torch.autograd.grad(inner, [weight, bias], create_graph=order == 2)
        weight, bias = weight - 0.2 * of_weight, bias - 0.2 * of_bias
    return lambda queries: queries @ weight.T + bias


def learn2learn_head(classifier, features, labels, order, steps):
    """As in learn2learn's ANIL examples: its MAML wrapper around the classifier alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from learn2learn.algorithms import MAML

    learner = MAML(classifier, lr=0.2, first_order=order == 1).clone()
    for _ in range(steps):
        learner.adapt(F.cross_entropy(learner(features), labels) * WAY)
    return learner


@pytest.mark.parametrize("adapt", [plain_head, learn2learn_head])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 5])
def test_anil_equals_the_oracles(adapt, order, steps):
    if adapt is learn2learn_head:
        pytest.importorskip("learn2learn", reason="learn2learn is not installed: make learn2learn")
    method, batch = maml("anil", order=order, inner_steps=steps, inner_lr=0.2, transductive=True), episodes()
    loss, logits = method.loss_and_logits(batch)
    loss.backward()
    twin = copy.deepcopy(method)
    twin.zero_grad()
    backbone, rows = batch_statistics(twin.backbone), []
    for support, labels, query in zip(batch.support, batch.support_labels, batch.query, strict=True):
        features = backbone(torch.cat([support, query]))
        head = adapt(twin.classifier, features[: len(support)], labels, order, steps)
        rows.append(head(features[len(support) :]))
    torch.testing.assert_close(logits, torch.stack(rows), rtol=1e-8, atol=1e-8)
    F.cross_entropy(torch.cat(rows), batch.query_labels.flatten()).backward()
    for name, p in backbone.named_parameters():
        torch.testing.assert_close(method.get_parameter(f"backbone.{name}").grad, p.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(method.classifier.weight.grad, twin.classifier.weight.grad, rtol=1e-7, atol=1e-9)


def test_a_network_of_other_layers_is_adapted_one_task_at_a_time():
    class Scaled(torch.nn.Module):
        feature_dim = 16

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(16))
            self.linear = torch.nn.Linear(256, 16)

        def forward(self, images):
            return (self.linear(images.flatten(1)) * self.scale).relu()

    with seeding.fork(0, "test"):
        method = create_method("maml", Scaled(), n_way=WAY, inner_steps=2, transductive=True).double()
    assert not method.together
    batch = episodes()
    logits = method(batch.support, batch.support_labels, batch.query, WAY)
    leaves = (method.classifier.weight, method.classifier.bias)
    rows = [
        plain_maml(method.backbone, *leaves, *row, order=2, steps=2, lr=0.4, reduction="sum/K")[1]
        for row in zip(batch.support, batch.support_labels, batch.query, strict=True)
    ]
    torch.testing.assert_close(logits, torch.stack(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("learn_inner_lr", [False, True])
def test_frozen_weights_are_not_adapted(learn_inner_lr):
    method, batch = maml(inner_steps=2, learn_inner_lr=learn_inner_lr), episodes()
    first = method.backbone.body.blocks[0][0].weight.requires_grad_(False)
    method.classifier.weight.requires_grad_(False)
    adapted = method.adapt_weights(batch.support, batch.support_labels, WAY, 2)
    assert "backbone.body.blocks.0.0.weight" not in adapted
    assert "backbone.body.blocks.1.0.weight" in adapted
    method.loss(batch).backward()
    assert first.grad is None
    assert method.classifier.weight.grad is None


def test_wrong_options_and_episodes_are_named():
    with pytest.raises(ConfigError, match="needs a backbone"):
        create_method("maml", None)
    with pytest.raises(ConfigError, match="feature_dim"):
        create_method("anil", None)
    with pytest.raises(ConfigError, match="not both"):
        maml("anil", transductive=True, support_statistics=True)
    for name in ("maml", "anil"):
        with pytest.raises(ConfigError, match="order must be one of 1, 2, got 3"):
            maml(name, order=3)
        with pytest.raises(ConfigError, match="inner steps at least 1"):
            maml(name, inner_steps=0)
        with pytest.raises(ConfigError, match="sum/K, mean, got"):
            maml(name, inner_reduction="sum")
        batch = episodes()
        with pytest.raises(EpisodeError, match=f"5 classes does not fit {name}'s classifier, .* n_way=4"):
            maml(name)(batch.support, batch.support_labels, batch.query, WAY + 1)
