"""The method contract, held by every registered method; ProtoNet against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method, list_methods, seeding
from fewshot.errors import ConfigError, UnknownNameError
from fewshot.methods import METHODS, accuracy, negative_log_likelihood
from fewshot.methods.distances import cosine, prototypes, squared_euclidean

WAY, SHOT, QUERY, DIM = 4, 3, 5, 6
VARIANTS = [*((name, {}) for name in list_methods()), ("protonet", {"distance": "cosine"})]


def features(seed: int = 0, n_episodes: int = 3, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Support (B, WAY * SHOT, DIM), its labels, queries, their labels; `spread` parts the classes."""
    generator = seeding.generator(seed, "test")
    centres = spread * torch.randn(n_episodes, WAY, DIM, generator=generator)
    parts = []
    for n in (SHOT, QUERY):
        labels = torch.arange(WAY).repeat_interleave(n).expand(n_episodes, -1)
        noise = torch.randn(n_episodes, WAY * n, DIM, generator=generator)
        parts += [centres.gather(1, labels[..., None].expand(-1, -1, DIM)) + noise, labels]
    return tuple(parts)


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join([v[0], *map(str, v[1].values())]))
def method(request):
    name, options = request.param
    with seeding.forked(0, "test"):
        return create_method(name, None, **options).eval()


@torch.no_grad()
def test_shape_and_repeatability(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    assert logits.shape == (3, WAY * QUERY, WAY)
    assert torch.equal(logits, method(support, labels, query, WAY))


@torch.no_grad()
def test_order_of_support_does_not_matter(method):
    support, labels, query, _ = features()
    order = torch.randperm(WAY * SHOT, generator=seeding.generator(1))
    shuffled = method(support[:, order], labels[:, order], query, WAY)
    torch.testing.assert_close(shuffled, method(support, labels, query, WAY), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_relabelling_classes_relabels_logits(method):
    support, labels, query, _ = features()
    renamed = torch.tensor([2, 0, 3, 1])
    logits, relabelled = method(support, labels, query, WAY), method(support, renamed[labels], query, WAY)
    torch.testing.assert_close(relabelled[..., renamed], logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_other_queries_do_not_matter_unless_transductive(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    alone = torch.cat([method(support, labels, query[:, i : i + 1], WAY) for i in range(query.shape[1])], 1)
    same = torch.allclose(alone, logits, rtol=1e-4, atol=1e-4)
    assert same or method.transductive


@torch.no_grad()
def test_batch_of_episodes_equals_one_by_one(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    singly = [method(support[b : b + 1], labels[b : b + 1], query[b : b + 1], WAY) for b in range(3)]
    torch.testing.assert_close(torch.cat(singly), logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_takes_no_part(method):
    support, labels, query, _ = features()
    keep = torch.ones(WAY * SHOT, dtype=torch.bool)
    keep[[0, 1, 4]] = False  # unequal shots: 1, 2, 3, 3
    padded = torch.where(keep, labels, -1)
    expected = method(support[:, keep], labels[:, keep], query, WAY)
    torch.testing.assert_close(method(support, padded, query, WAY), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_absent_class_is_never_predicted(method):
    support, labels, query, _ = features()
    logits = method(support, torch.where(labels == 2, -1, labels), query, WAY)
    assert (logits[..., 2] == -torch.inf).all()
    assert logits[..., [0, 1, 3]].isfinite().all()


@torch.no_grad()
def test_separable_data_are_solved_and_noise_is_chance(method):
    support, labels, query, query_labels = features(n_episodes=50, spread=100.0)
    assert accuracy(method(support, labels, query, WAY), query_labels).min() == 1
    support, labels, query, query_labels = features(n_episodes=400, spread=0.0)
    chance = accuracy(method(support, labels, query, WAY), query_labels)
    assert abs(chance.mean() - 1 / WAY) < 4 * chance.std() / 400**0.5


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_gradient_reaches_every_parameter_and_bf16_agrees(toy_sets, name, options):
    with seeding.forked(0, "test"):
        method = create_method(name, create_backbone("conv4", 1, 16, n_filters=8), **options)
    sampler = EpisodeSampler(toy_sets[0], EpisodeSpec(WAY, 2, 3))
    episode = sampler.images(sampler.batch(0, 2))
    method.loss(episode).backward()
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert sum(float(p.grad.abs().sum() > 0) for p in method.parameters()) > 0.7 * len(list(method.parameters()))
    arguments = (episode.support, episode.support_labels, episode.query, episode.n_way)
    method.eval()
    with torch.no_grad():
        full = method(*arguments).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            half = method(*arguments).softmax(-1)
    assert (full - half).abs().mean() < 0.03


def test_protonet_is_the_nearest_centroid():
    support, labels, query, _ = features(n_episodes=20)
    predicted = create_method("protonet", None)(support, labels, query, WAY).argmax(-1)
    for b in range(20):
        oracle = NearestCentroid().fit(support[b].numpy(), labels[b].numpy())
        assert np.array_equal(predicted[b].numpy(), oracle.predict(query[b].numpy()))


def test_protonet_logits_by_hand():
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]]])
    logits = create_method("protonet", None)(support, torch.tensor([[0, 0, 1]]), torch.tensor([[[1.0, 1.0]]]), 2)
    # means (1, 0) and (0, 3); squared distances from (1, 1): 1 and 1 + 4
    assert logits.tolist() == [[[-1.0, -5.0]]]


def test_cosine_protonet_by_hand():
    method = create_method("protonet", None, distance="cosine", initial_scale=4.0)
    support = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])
    logits = method(support, torch.tensor([[0, 1]]), torch.tensor([[[3.0, 4.0]]]), 2)
    torch.testing.assert_close(logits, torch.tensor([[[4 * 0.6, 4 * 0.8]]]))


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_squared_distances_against_float64(offset):
    a, b = (offset + torch.randn(2, n, 64, generator=seeding.generator(n)) for n in (7, 5))
    exact = (a.double()[:, :, None] - b.double()[:, None]).square().sum(-1)
    torch.testing.assert_close(squared_euclidean(a, b).double(), exact, rtol=1e-4, atol=1e-3)
    similar = torch.nn.functional.cosine_similarity(a.double()[:, :, None], b.double()[:, None], dim=-1)
    torch.testing.assert_close(cosine(a, b).double(), similar, rtol=1e-4, atol=1e-5)


def test_distance_gradients():
    a, b = (torch.randn(1, n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 2))
    assert torch.autograd.gradcheck(squared_euclidean, (a, b))
    assert torch.autograd.gradcheck(cosine, (a, b))
    labels = torch.tensor([[0, 1, 1, -1]])
    assert torch.autograd.gradcheck(lambda x: prototypes(x, labels, 2)[0], (a,))


def test_loss_and_accuracy_ignore_padding():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]])
    labels = torch.tensor([[0, 0, -1]])
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(1))) / 2
    assert float(negative_log_likelihood(logits, labels)) == pytest.approx(expected, rel=1e-6)
    assert float(accuracy(logits, labels)) == 0.5


def test_unknown_method_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'protonet'\?"):
        create_method("protonets", None)
    with pytest.raises(ConfigError, match="manhattan"):
        create_method("protonet", None, distance="manhattan")
    with pytest.raises(ValueError, match="registered twice"):
        METHODS.register("protonet", object)
