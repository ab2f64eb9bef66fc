"""The contract of methods, tested for every registered one; ProtoNet compared with scikit-learn."""

import copy
import inspect
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from method_cases import (
    BACKBONES,
    OPTIONS,
    QUERY,
    SHOT,
    VARIANTS,
    WAY,
    OnVectors,
    features,
    names,
    on_images,
    skip_without_package,
    variants_that,
)
from sklearn.neighbors import NearestCentroid

from fewshot import (
    EpisodeContext,
    EpisodeSampler,
    EpisodeSpec,
    Method,
    create_backbone,
    create_method,
    evaluate,
    list_methods,
)
from fewshot.errors import ConfigError, UnknownNameError
from fewshot.methods import METHODS, accuracy, find_method, negative_log_likelihood
from fewshot.methods.base import Family
from fewshot.methods.distances import cosine, prototypes, squared_euclidean
from fewshot.runtime import seeding

TRANSDUCTIVE = variants_that("transductive")


@pytest.fixture(params=VARIANTS, ids=names)
def method(request):
    return OnVectors(*request.param)


def test_what_is_declared_of_every_method():
    kinds = [find_method(name) for name in list_methods()]
    assert OPTIONS.keys() | BACKBONES.keys() <= set(list_methods())
    assert len({kind.label for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.family in get_args(Family), kind
        assert (kind.colour != "") is kind.published, kind


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"family": "metric"}, "Own: family is one of episodic, adapted, two-stage, stage one; got 'metric'"),
        ({"published": True}, "Own: a published method needs a colour"),
    ],
)
def test_facts_that_say_nothing_are_refused_where_they_are_declared(facts, message):
    with pytest.raises(ConfigError, match=message):
        type("Own", (Method,), facts)


@pytest.mark.parametrize("fact", ["transductive", "uses_features", "order_matters", "must_be_trained"])
def test_what_options_decide_cannot_be_set(method, fact):
    with pytest.raises(AttributeError):
        setattr(method.method, fact, True)


@pytest.mark.parametrize("name", list_methods())
def test_a_network_is_needed_where_declared(name):
    options = OPTIONS.get(name, {})
    skip_without_package(name)
    if not find_method(name).needs_network:
        assert create_method(name, None, **options).backbone is None
        return
    with pytest.raises(ConfigError, match=f"{find_method(name).label} needs a backbone"):
        create_method(name, None, **options)


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
@torch.no_grad()
def test_logits_come_from_features_where_declared(toy_sets, variant):
    """Logits are those of the head on the features of each image; other methods refuse features."""
    method, episode = on_images(variant, toy_sets[0])
    expected = method.eval().classify(episode)
    if not method.uses_features:
        with pytest.raises(ConfigError, match="classifies images, but was given features"):
            method.classify(replace(episode, of_features=True))
        return
    support, query = (
        torch.cat([method.encode(image) for image in images.flatten(0, 1).split(1)]).unflatten(0, images.shape[:2])
        for images in (episode.support, episode.query)
    )
    logits = method.classify(replace(episode, support=support, query=query, of_features=True))
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def test_a_method_has_a_head_or_a_forward():
    class Neither(Method):
        pass

    with pytest.raises(TypeError, match="Neither has neither a head on features nor a forward"):
        Neither(None)
    assert not any(hasattr(find_method(name), "head") for name in ("maml", "maml-learn2learn", "finetune"))


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
    assert torch.allclose(shuffled, logits, rtol=1e-4, atol=1e-4) is not method.method.order_matters


@torch.no_grad()
def test_relabelling_classes_relabels_logits_except_where_declared(method):
    support, labels, query, _ = features()
    renamed = torch.tensor([2, 0, 3, 1])
    logits, relabelled = method(support, labels, query, WAY), method(support, renamed[labels], query, WAY)
    assert torch.allclose(relabelled[..., renamed], logits, rtol=1e-4, atol=1e-4) is not method.method.learned_classes


@torch.no_grad()
def test_other_queries_do_not_matter_unless_transductive(method):
    support, labels, query, _ = features()
    logits = method(support, labels, query, WAY)
    pairs = torch.cat([method(support, labels, pair, WAY) for pair in query.split(2, 1)], 1)
    same = torch.allclose(pairs, logits, rtol=1e-4, atol=1e-5)
    assert same is not method.method.transductive


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


def test_every_transductive_form_is_held_to_the_contract():
    """A method with an option `transductive` must have a variant that sets it."""
    by_option = {name for name in list_methods() if "transductive" in inspect.signature(find_method(name)).parameters}
    assert by_option == {name for name, options in VARIANTS if options.get("transductive")}
    assert by_option <= {variant[0] for variant in TRANSDUCTIVE if isinstance(variant, tuple) and len(variant) == 2}


@pytest.mark.parametrize("learning", [False, True])
def test_queries_that_are_padding_take_no_part(method, learning):
    method.method.double()
    support, labels, query, _ = (tensor.double() if tensor.is_floating_point() else tensor for tensor in features())
    mask = torch.rand(query.shape[:2], generator=seeding.generator(2)) < 0.7
    mask[2] = True  # an episode without padding among others
    assert not mask[:2].all(1).any()
    padded = torch.where(mask[..., None], query, 100.0)
    with torch.set_grad_enabled(learning):
        logits = method(support, labels, padded, WAY, context=EpisodeContext(mask))
        full = method(support, labels, query, WAY, context=EpisodeContext(torch.ones_like(mask)))
        assert torch.equal(full, method(support, labels, query, WAY))
        assert torch.equal(full, method(support, labels, query, WAY, context=EpisodeContext()))
        for b, real in enumerate(mask):
            alone = method(support[b : b + 1], labels[b : b + 1], query[b : b + 1, real], WAY)
            torch.testing.assert_close(logits[b : b + 1, real], alone, rtol=1e-9, atol=1e-9)
    assert logits.isfinite().all()


def without_padding(episode, b):
    """Take episode b of a batch, without its padding."""
    support, query = (labels[b] != -1 for labels in (episode.support_labels, episode.query_labels))
    kept = {"support": support, "support_labels": support, "query": query, "query_labels": query}
    return replace(
        episode, classes=episode.classes[b : b + 1], **{k: getattr(episode, k)[b : b + 1, v] for k, v in kept.items()}
    )


@pytest.mark.parametrize("variant", TRANSDUCTIVE, ids=names)
def test_padding_changes_no_loss_and_no_record(toy_sets, variant):
    name, options = variant[0], variant[1] | ({"test_inner_steps": 1} if "test_inner_steps" in variant[1] else {})
    with seeding.fork(0, "test"):
        backbone = create_backbone(BACKBONES.get(name, "conv4"), 1, 16, n_filters=4)
        method = create_method(name, backbone, **options).double()
    spec = EpisodeSpec((2, WAY), (1, 3), (1, 4))
    sampler = EpisodeSampler(toy_sets[0], spec)
    episode = sampler.batch(0, 4).fill(sampler.data)
    prepared = {
        key: backbone.prepare(getattr(episode, key).flatten(0, 1)).double().unflatten(0, (4, -1))
        for key in ("support", "query")
    }
    episode = replace(episode, **prepared)
    assert not episode.query_mask.all()
    alone = [without_padding(episode, b) for b in range(4)]
    method.train()
    state = copy.deepcopy(method.state_dict())
    (loss, logits), parts = method.loss_and_logits(episode), [method.loss_and_logits(one) for one in alone]
    torch.testing.assert_close(loss, torch.stack([part[0] for part in parts]).mean(), rtol=1e-8, atol=1e-8)
    for b, part in enumerate(parts):
        torch.testing.assert_close(logits[b : b + 1, episode.query_mask[b]], part[1], rtol=1e-8, atol=1e-8)
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    records = evaluate(method.float(), toy_sets[0], spec, 4)
    with torch.no_grad():
        for b, one in enumerate(alone):
            one = replace(one, support=one.support.float(), query=one.query.float())
            logits = method.eval().classify(one)
            assert records.episodes[b].accuracy == pytest.approx(accuracy(logits, one.query_labels).item())
            assert records.episodes[b].loss == pytest.approx(
                negative_log_likelihood(logits, one.query_labels).item(), rel=1e-4, abs=1e-4
            )


@torch.no_grad()
def test_absent_class_is_never_predicted(method):
    support, labels, query, _ = features()
    logits = method(support, torch.where(labels == 2, -1, labels), query, WAY)
    assert (logits[..., 2] == -torch.inf).all()
    assert logits[..., [0, 1, 3]].isfinite().all()


@torch.no_grad()
def test_separable_data_are_solved_and_noise_is_chance(method):
    support, labels, query, query_labels = features(n_episodes=50, spread=10.0)
    if method.method.learned_classes or not method.method.must_be_trained:  # the former adapt to each episode
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
