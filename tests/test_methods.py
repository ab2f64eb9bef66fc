"""The method contract, held by every registered method; ProtoNet against scikit-learn."""

import numpy as np
import pytest
import torch
from method_cases import QUERY, SHOT, VARIANTS, WAY, OnVectors, features, names, on_images
from sklearn.neighbors import NearestCentroid

from fewshot import create_method, seeding
from fewshot.errors import UnknownNameError
from fewshot.methods import METHODS, accuracy, negative_log_likelihood
from fewshot.methods.distances import cosine, prototypes, squared_euclidean

LEARNED_CLASSES = ("maml", "anil", "maml-learn2learn")  # a first classifier is learned for each label
ORDERED = ("full_context",)  # a recurrent network reads the support in its order
UNTRAINED = ("relation", "full_context")  # a comparison that must be learned first


@pytest.fixture(params=VARIANTS, ids=names)
def method(request):
    return OnVectors(*request.param)


@torch.no_grad()
def test_shape_and_repeatability(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    assert logits.shape == (3, WAY * QUERY, WAY)
    assert torch.equal(logits, method(support, labels, query, WAY))


@torch.no_grad()
def test_order_of_support_matters_only_where_declared(method):
    support, labels, query, _ = features()
    order = torch.randperm(WAY * SHOT, generator=seeding.generator(1))
    logits, shuffled = method(support, labels, query, WAY), method(support[:, order], labels[:, order], query, WAY)
    assert torch.allclose(shuffled, logits, rtol=1e-4, atol=1e-4) is not method.has(*ORDERED)


@torch.no_grad()
def test_relabelling_classes_relabels_logits_except_where_declared(method):
    support, labels, query, _ = features()
    renamed = torch.tensor([2, 0, 3, 1])
    logits, relabelled = method(support, labels, query, WAY), method(support, renamed[labels], query, WAY)
    assert torch.allclose(relabelled[..., renamed], logits, rtol=1e-4, atol=1e-4) is not method.has(*LEARNED_CLASSES)


@torch.no_grad()
def test_other_queries_do_not_matter_unless_transductive(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    pairs = torch.cat([method(support, labels, pair, WAY) for pair in query.split(2, 1)], 1)
    same = torch.allclose(pairs, logits, rtol=1e-4, atol=1e-5)
    assert same is not method.transductive


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
    support, labels, query, query_labels = features(n_episodes=50, spread=10.0)
    if not method.has(*UNTRAINED):
        solved = accuracy(method(support, labels, query, WAY), query_labels)
        short = method.name == "baseline++" and not method.options  # declared: the authors' few steps on cosines
        assert solved.mean() > 0.98 if short else solved.min() == 1
    support, labels, query, query_labels = features(n_episodes=400, spread=0.0)
    chance = accuracy(method(support, labels, query, WAY), query_labels)
    assert abs(chance.mean() - 1 / WAY) < 4 * chance.std() / 400**0.5


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_gradient_reaches_every_parameter_and_bf16_agrees(toy_sets, variant):
    method, episode = on_images(variant, toy_sets[0])
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
    with pytest.raises(ValueError, match="registered twice"):
        METHODS.register("protonet", object)
