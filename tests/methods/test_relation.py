"""Relation Network compared with slow loops over pairs with the same weights, and with hand-worked numbers."""

import copy
import math

import pytest
import torch
from conftest import striped
from torch import nn
from torch.nn import functional as F

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method, evaluate
from fewshot.backbones.base import Backbone
from fewshot.errors import ConfigError
from fewshot.methods import accuracy
from fewshot.methods.modules.relation_module import RelationModule, pair_moments, pool_sums
from fewshot.methods.relation import RelationNetwork, squared_error
from fewshot.runtime import seeding
from fewshot.sampling.episodes import Episode

WAY, N_FILTERS = 3, 6


def module_of(side_px: int, channels: int = 4) -> RelationModule:
    """A relation module in float64 with random batch normalisation and biases."""
    with seeding.fork(side_px, "relation"):
        module = RelationModule(channels, side_px, n_filters=N_FILTERS, n_hidden=5).double()
        for block in module.blocks:
            nn.init.normal_(block.norm.weight)
            nn.init.normal_(block.norm.bias)
            nn.init.normal_(block.norm.running_mean)
            nn.init.uniform_(block.norm.running_var, 0.5, 2)
        for layer in (module.linear[0], module.linear[2]):
            nn.init.normal_(layer.weight)
    return module


def maps(n_episodes: int, n: int, side_px: int, channels: int = 4, seed: int = 0) -> torch.Tensor:
    generator = seeding.generator(seed, "maps", n)
    return torch.randn(n_episodes, n, channels, side_px, side_px, dtype=torch.float64, generator=generator)


def authors_scores(module: RelationModule, pairs: torch.Tensor, batch_statistics: bool) -> torch.Tensor:
    """Sigmoid scores of concatenated pairs (n, 2 c, h, w), in the authors' order: ReLU, then pooling."""
    for block in module.blocks:
        norm = block.norm
        running = (None, None) if batch_statistics else (norm.running_mean, norm.running_var)
        pairs = F.conv2d(pairs, block.conv.weight, padding=block.conv.padding)
        pairs = F.batch_norm(pairs, *running, norm.weight, norm.bias, batch_statistics).relu()
        if pairs.shape[-1] > 1:
            pairs = F.max_pool2d(pairs, 2)
    first, _, last = module.linear
    hidden = F.linear(pairs.flatten(1), first.weight, first.bias).relu()
    return F.linear(hidden, last.weight, last.bias).sigmoid().squeeze(1)


def small(**options: object) -> RelationNetwork:
    """A network for 16 px images: 2 x 2 maps of 8 channels."""
    with seeding.fork(0, "test"):
        return create_method("relation", create_backbone("conv4-relation", 1, 16, n_filters=8), **options)


def spread(method: RelationNetwork) -> RelationNetwork:
    """Enlarge the last layers: with the authors' initial values all scores are nearly equal."""
    with seeding.fork(1, "test"):
        for layer in (method.relation.linear[0], method.relation.linear[2]):
            nn.init.normal_(layer.weight)
    return method


def episodes(imageset, n_shot=2, n_query=3, n_episodes: int = 2, first: int = 0) -> Episode:
    sampler = EpisodeSampler(imageset, EpisodeSpec(WAY, n_shot, n_query))
    return sampler.batch(first, n_episodes).fill(sampler.data)


def arguments(episode: Episode) -> tuple:
    return episode.support, episode.support_labels, episode.query, episode.n_way


@pytest.mark.parametrize("side_px", [2, 3, 5, 7, 10, 19])
@torch.no_grad()
def test_scores_equal_a_loop_over_pairs(side_px):
    module, classes, query = module_of(side_px).eval(), maps(2, WAY, side_px), maps(2, 5, side_px)
    scores = module(classes, query).sigmoid()
    for b in range(2):
        for i in range(5):
            for k in range(WAY):
                pair = torch.cat([classes[b, k], query[b, i]])[None]
                torch.testing.assert_close(scores[b, i, k], authors_scores(module, pair, False)[0])
    pairs = torch.stack(
        [torch.cat([classes[b, k], query[b, i]]) for b in range(2) for i in range(5) for k in range(WAY)]
    )
    for block in module.blocks:  # as the layers stand, nothing folded and no halves
        pairs = block.finish(block.conv(pairs))
    torch.testing.assert_close(module.linear(pairs.flatten(1)).view_as(scores).sigmoid(), scores)


@torch.no_grad()
def test_training_uses_the_statistics_of_all_pairs():
    module, classes, query = module_of(5).train(), maps(2, WAY, 5), maps(2, 4, 5)
    pairs = [torch.cat([classes[b, k], query[b, i]]) for b in range(2) for i in range(4) for k in range(WAY)]
    expected = authors_scores(module, torch.stack(pairs), True).view(2, 4, WAY)
    torch.testing.assert_close(module(classes, query).sigmoid(), expected)


@pytest.mark.parametrize(
    ("backbone", "input_px", "n_inputs"), [("conv4-relation", 28, 64), ("conv4-relation", 84, 576)]
)
def test_sizes_and_initial_values_are_the_authors(backbone, input_px, n_inputs):
    with seeding.fork(0, "relation"):
        relation = create_method("relation", create_backbone(backbone, 1, input_px)).relation
    shapes = [tuple(p.shape) for name, p in relation.named_parameters() if "norm" not in name]
    assert shapes == [(64, 128, 3, 3), (64, 64, 3, 3), (8, n_inputs), (8,), (1, 8), (1,)]
    for block in relation.blocks:
        assert float(block.conv.weight.std().detach()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
        assert float(block.conv.weight.mean().detach()) == pytest.approx(0, abs=0.002)
    assert float(relation.linear[0].weight.std().detach()) == pytest.approx(0.01, rel=0.1)
    assert relation.linear[0].bias.tolist() == [1] * 8
    assert relation.linear[2].bias.tolist() == [1]


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@torch.no_grad()
def test_class_maps_are_sums_or_means_of_unequal_shots(pooling):
    method = small(shot_pooling=pooling).eval()
    support, query = (maps(1, n, 2, channels=8).float() for n in (5, 2))
    labels = torch.tensor([[2, 0, -1, 0, 0]])
    logits = method.head(support, labels, query, 3)
    of_0 = support[0, 1] + support[0, 3] + support[0, 4]
    classes = torch.stack([of_0 if pooling == "sum" else of_0 / 3, support[0, 0]])[None]
    torch.testing.assert_close(logits[..., [0, 2]], method.relation(classes, query))
    assert (logits[..., 1] == -torch.inf).all()


def test_squared_error_by_hand():
    # sigmoid of 0 and of log 3 are 1/2 and 3/4; class 2 is absent from episode 0, the last query pads
    logits = torch.tensor([[[0.0, math.log(3), -math.inf], [math.log(3), 0.0, -math.inf], [9.0, 9.0, -math.inf]]])
    errors = squared_error(logits, torch.tensor([[0, 0, -1]]))
    torch.testing.assert_close(errors, torch.tensor([(1 / 4 + 9 / 16 + 1 / 16 + 1 / 4) / 4]))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("transductive", [False, True])
def test_loss_is_of_all_pairs(toy_sets, loss, transductive):
    method, episode = small(loss=loss, transductive=transductive).eval(), episodes(toy_sets[0])
    value, logits = method.loss_and_logits(episode)
    truth = F.one_hot(episode.query_labels, WAY)
    if loss == "mse":
        expected = F.mse_loss(logits.sigmoid(), truth.float())
    else:
        expected = -(truth * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(logits, method(*arguments(episode)))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_absent_class_leaves_loss_and_gradients_finite(toy_sets, loss):
    method = small(loss=loss)
    sampler = EpisodeSampler(toy_sets[0], EpisodeSpec((2, 4), (1, 3), 2))
    episode = sampler.batch(0, 6).fill(sampler.data)
    assert (episode.classes == -1).any(), "no episode of this batch lacks a class"
    value, logits = method.loss_and_logits(episode)
    assert torch.equal(logits == -torch.inf, (episode.classes == -1)[:, None].expand_as(logits))
    value.backward()
    assert value.isfinite()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in method.parameters())


def test_moments_are_those_of_all_counted_pairs():
    first, second = maps(2, 4, 5) + 30, maps(2, 6, 5, seed=1)  # a mean that would drown a careless variance
    counted = torch.tensor([[True] * 4, [True, False, True, False]])
    of_queries = torch.tensor([[True, False, True, True, False, True], [True] * 6])
    for queries in (None, of_queries):
        mean, variance = pair_moments(first, second, counted, queries)
        for b in range(2):
            js = [j for j in range(6) if queries is None or queries[b, j]]
            pairs = torch.stack([second[b, j] + first[b, i] for j in js for i in range(4) if counted[b, i]])
            torch.testing.assert_close(mean[b], pairs.mean((0, 2, 3)))
            torch.testing.assert_close(variance[b], pairs.var((0, 2, 3), correction=0))


@pytest.mark.parametrize(("side_px", "pooled"), [(4, True), (5, True), (1, False), (5, False)])
def test_pooled_sums_are_the_sums_pooled(side_px, pooled):
    first, second = maps(2, 3, side_px), maps(2, 4, side_px, seed=1)
    sums = torch.stack([second[b, j] + first[b, i] for b in range(2) for j in range(4) for i in range(3)])
    assert torch.equal(pool_sums(first, second, pooled), F.max_pool2d(sums, 2) if pooled else sums)


@pytest.mark.parametrize(("training", "transductive"), [(False, False), (True, False), (True, True)])
def test_gradients(training, transductive):
    module = module_of(3, channels=2).train(training)
    classes, query = maps(1, 2, 3, channels=2).requires_grad_(), maps(1, 2, 3, channels=2, seed=1).requires_grad_()
    parameters = dict(module.named_parameters())
    counted = (torch.tensor([[True, True]]), torch.tensor([[True, False]])) if transductive else None

    def loss(classes, query, *values):
        named = dict(zip(parameters, values, strict=True))
        logits = torch.func.functional_call(module, named, (classes, query, counted))
        return squared_error(logits, torch.tensor([[1, 0]]))

    assert torch.autograd.gradcheck(loss, (classes, query, *parameters.values()), fast_mode=True)


@pytest.mark.parametrize("transductive", [False, True])
@torch.no_grad()
def test_contract(toy_sets, transductive):
    method, episode = spread(small(transductive=transductive)).eval(), episodes(toy_sets[0])
    support, labels, query, _ = arguments(episode)
    logits = method(support, labels, query, WAY)

    def same(other):
        torch.testing.assert_close(other, logits, rtol=1e-4, atol=1e-5)

    same(method(support, labels, query, WAY))
    same(torch.cat([method(*(x[b : b + 1] for x in (support, labels, query)), WAY) for b in range(2)]))
    order = torch.randperm(labels.shape[1], generator=seeding.generator(0))
    same(method(support[:, order], labels[:, order], query, WAY))
    renamed = torch.tensor([2, 0, 1])
    same(method(support, renamed[labels], query, WAY)[..., renamed])
    padding = torch.full_like(labels[:, :1], -1)
    same(method(torch.cat([query[:, :1], support], 1), torch.cat([padding, labels], 1), query, WAY))
    wider = method(support, labels, query, WAY + 1)  # a class that these episodes do not have
    same(wider[..., :WAY])
    assert (wider[..., WAY] == -torch.inf).all()
    assert logits.std(-1).mean() > 1e-3  # else all of this would hold for nothing
    alone = torch.cat([method(support, labels, query[:, i : i + 1], WAY) for i in range(query.shape[1])], 1)
    if transductive:
        assert (alone - logits).abs().mean() > 0.01
    else:
        same(alone)


@torch.no_grad()
def test_evaluation_embeds_once_and_agrees_with_forward(toy_sets):
    method, spec = spread(small()).eval(), EpisodeSpec(WAY, 2, 3)
    records = evaluate(method, toy_sets[0], spec, 4)
    sampler = EpisodeSampler(toy_sets[0], spec)
    episode = sampler.batch(0, 4).fill(sampler.data)
    expected = accuracy(method(*arguments(episode)), episode.query_labels)
    assert records.accuracy.tolist() == pytest.approx(expected.tolist())
    assert method.uses_features
    assert method.encode(episode.support).shape == (4, 6, 8, 2, 2)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_transductive_is_the_authors_protocol(toy_sets, training):
    """Their networks stay in training mode: support, queries and pairs of an episode are separate batches."""
    method, episode = spread(small(transductive=True)).train(training), episodes(toy_sets[0])
    before = copy.deepcopy(method.state_dict())
    logits = method(*arguments(episode))
    assert method.transductive
    assert not method.uses_features
    authors = copy.deepcopy(method).train()
    for b in range(2):
        support = authors.backbone.feature_maps(episode.support[b])
        query = authors.backbone.feature_maps(episode.query[b])
        classes = [support[episode.support_labels[b] == k].sum(0) for k in range(WAY)]
        pairs = torch.stack([torch.cat([classes[k], q]) for q in query for k in range(WAY)])
        scores = authors_scores(authors.relation, pairs, True).view(-1, WAY)
        torch.testing.assert_close(logits[b].sigmoid(), scores, rtol=1e-4, atol=1e-6)
    for name, tensor in method.state_dict().items():
        assert "running" not in name or torch.equal(tensor, before[name]), name


def test_transductive_is_evaluated_from_images(toy_sets):
    method, spec = spread(small(transductive=True)), EpisodeSpec(WAY, 2, 3)
    records = evaluate(method, toy_sets[0], spec, 4)
    sampler = EpisodeSampler(toy_sets[0], spec)
    episode = sampler.batch(0, 4).fill(sampler.data)
    with torch.no_grad():
        expected = accuracy(method.eval()(*arguments(episode)), episode.query_labels)
    assert records.accuracy.tolist() == pytest.approx(expected.tolist())
    assert records.header.transductive


@pytest.mark.parametrize("transductive", [False, True])
def test_bf16_agrees(toy_sets, transductive):
    method, episode = spread(small(transductive=transductive)).eval(), episodes(toy_sets[0])
    with torch.no_grad():
        full = method(*arguments(episode)).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            half = method(*arguments(episode)).softmax(-1)
    assert (full - half).abs().mean() < 0.03


@pytest.mark.parametrize("transductive", [False, True])
def test_learns_stripes(transductive):
    train = striped(6, n_images=20, seed=3)
    method = small(transductive=transductive, n_filters=16)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    sampler = EpisodeSampler(train, EpisodeSpec(WAY, 2, 5))
    for step in range(100):
        optimizer.zero_grad()
        method.loss(sampler.batch(4 * step, 4).fill(sampler.data)).backward()
        optimizer.step()
    records = evaluate(method, train, EpisodeSpec(WAY, 2, 5), 50, seed=1)
    assert records.mean > 0.95


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (None, "Relation needs a backbone: it does not work from features alone"),
        (Backbone(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), 1, 8), "pools by itself to 5 features"),
        (create_backbone("conv4", 1, 28), "1 x 1: take conv4-relation"),
        (Backbone(nn.Conv2d(1, 2, (1, 3)), 1, 8, pooling="flatten"), "are 8 x 6"),
    ],
)
def test_backbones_without_fitting_maps(backbone, message):
    with pytest.raises(ConfigError, match=message):
        create_method("relation", backbone)


def test_unknown_options():
    backbone = create_backbone("conv4-relation", 1, 16, n_filters=8)
    with pytest.raises(ConfigError, match="mse, cross_entropy, got 'hinge'"):
        create_method("relation", backbone, loss="hinge")
    with pytest.raises(ConfigError, match="sum, mean, got 'max'"):
        create_method("relation", backbone, shot_pooling="max")


def test_construction_leaves_the_backbone_as_it_was():
    backbone = create_backbone("conv4-relation", 1, 16, n_filters=8)
    before = copy.deepcopy(backbone.state_dict())
    create_method("relation", backbone)
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
