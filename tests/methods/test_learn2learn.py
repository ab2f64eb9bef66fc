"""maml-learn2learn: learn2learn's wrapper compared with a plain loop, and the method contract."""

import copy
import importlib.util
import sys

import pytest
import torch
from maml_oracle import batch_statistics, learn2learn_maml, plain_maml

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method
from fewshot.errors import ConfigError, EpisodeError, FewShotError
from fewshot.methods import accuracy, maml_learn2learn, negative_log_likelihood
from fewshot.runtime import seeding

WAY, SHOT, QUERY = 4, 2, 3
CASES = [(order, steps, reduction) for order in (1, 2) for steps in (1, 5) for reduction in ("sum/K", "mean")]
needs_learn2learn = pytest.mark.skipif(
    importlib.util.find_spec("learn2learn") is None, reason="learn2learn is not installed: run `make learn2learn`"
)


def images(n_episodes: int = 3, dtype: torch.dtype = torch.float64, spread: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Support, its labels, queries, their labels: noise of size `spread` around an image for each class, 16 px."""
    generator = seeding.generator(0, "test")
    centres = torch.randn(n_episodes, WAY, 1, 16, 16, generator=generator, dtype=dtype)
    parts = []
    for n in (SHOT, QUERY):
        labels = torch.arange(WAY).repeat_interleave(n).expand(n_episodes, -1)
        noise = torch.randn(n_episodes, WAY * n, 1, 16, 16, generator=generator, dtype=dtype)
        parts += [centres[:, labels[0]] + spread * noise, labels]
    return tuple(parts)


def method(dtype: torch.dtype = torch.float64, n_filters: int = 4, **options: object) -> torch.nn.Module:
    with seeding.fork(0, "test"):
        backbone = create_backbone("conv4", 1, 16, n_filters=n_filters)
        return create_method("maml-learn2learn", backbone, **{"n_way": WAY, "inner_lr": 0.1, **options}).to(dtype)


def oracle(function, ours, episode, **settings):
    """Adapted weights, query loss and meta-gradients (by name) of an oracle on one episode."""
    support, labels, query, query_labels = episode
    backbone = batch_statistics(ours.backbone)
    weight, bias = (p.detach().clone().requires_grad_() for p in ours.classifier.parameters())
    adapted, logits = function(backbone, weight, bias, support, labels, query, **settings)
    loss = -logits.log_softmax(1)[torch.arange(len(query)), query_labels].mean()
    leaves = {f"backbone.{name}": p for name, p in backbone.named_parameters()}
    leaves |= {"classifier.weight": weight, "classifier.bias": bias}
    return adapted, loss, dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@needs_learn2learn
@pytest.mark.parametrize(("order", "steps", "reduction"), CASES)
def test_learn2learn_is_the_plain_loop(order, steps, reduction):
    ours = method()
    episode = [part[0] for part in images(1)]
    settings = dict(order=order, steps=steps, lr=0.1, reduction=reduction)
    theirs, plain = (oracle(function, ours, episode, **settings) for function in (learn2learn_maml, plain_maml))
    assert theirs[0].keys() == plain[0].keys()
    torch.testing.assert_close(theirs, plain, rtol=1e-5, atol=1e-9)


@needs_learn2learn
@pytest.mark.parametrize(("order", "steps", "reduction"), CASES)
def test_method_is_the_plain_loop(order, steps, reduction):
    ours = method(order=order, inner_steps=steps, inner_reduction=reduction)
    support, labels, query, query_labels = images(2)
    settings = dict(order=order, steps=steps, lr=0.1, reduction=reduction)
    episodes = zip(support, labels, query, query_labels, strict=True)
    plain = [oracle(plain_maml, ours, episode, **settings) for episode in episodes]

    learner = ours.adapt(support[0], labels[0], torch.ones(WAY, dtype=torch.bool))
    torch.testing.assert_close(list(learner.parameters()), list(plain[0][0].values()), rtol=1e-5, atol=1e-9)
    loss = negative_log_likelihood(ours(support, labels, query, WAY), query_labels).mean()
    torch.testing.assert_close(loss, (plain[0][1] + plain[1][1]) / 2, rtol=1e-5, atol=1e-9)
    loss.backward()
    for name, parameter in ours.named_parameters():
        expected = (plain[0][2][name] + plain[1][2][name]) / 2
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-9, msg=name)


@needs_learn2learn
@torch.no_grad()
def test_contract_at_test():
    ours = method(inner_steps=2).eval()
    support, labels, query, _ = images()
    before = copy.deepcopy(ours.state_dict())
    logits = ours(support, labels, query, WAY)
    assert logits.shape == (3, WAY * QUERY, WAY)
    assert not logits.requires_grad
    assert torch.equal(logits, ours(support, labels, query, WAY))
    singly = [ours(support[b : b + 1], labels[b : b + 1], query[b : b + 1], WAY) for b in range(3)]
    torch.testing.assert_close(torch.cat(singly), logits)
    order = torch.randperm(WAY * SHOT, generator=seeding.generator(1))
    torch.testing.assert_close(ours(support[:, order], labels[:, order], query, WAY), logits)
    fewer = ours(support, labels, query[:, :4], WAY)
    assert not torch.allclose(fewer, logits[:, :4], rtol=1e-3)
    assert ours.transductive
    ours.train()(support, labels, query, WAY)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


@needs_learn2learn
@torch.no_grad()
def test_relabelling_with_the_classifier_relabels_logits():
    """Rows of the classifier belong to labels, so they must be permuted with the labels."""
    ours, renamed = method().eval(), torch.tensor([2, 0, 3, 1])
    support, labels, query, _ = images()
    logits = ours(support, labels, query, WAY)
    assert not torch.allclose(ours(support, renamed[labels], query, WAY)[..., renamed], logits, rtol=1e-3)
    for parameter in ours.classifier.parameters():
        parameter[renamed] = parameter.clone()
    torch.testing.assert_close(ours(support, renamed[labels], query, WAY)[..., renamed], logits)


@needs_learn2learn
@torch.no_grad()
def test_padding_takes_no_part_and_shots_may_differ():
    ours = method().eval()
    support, labels, query, _ = images()
    keep = torch.ones(WAY * SHOT, dtype=torch.bool)
    keep[[0, 5]] = False  # shots 1, 2, 1, 2: K is 6 / 4
    expected = ours(support[:, keep], labels[:, keep], query, WAY)
    torch.testing.assert_close(ours(support, torch.where(keep, labels, -1), query, WAY), expected)
    settings = dict(order=1, steps=1, lr=0.1, reduction="sum/K")
    arguments = (support[0, keep], labels[0, keep], query[0])
    with torch.enable_grad():
        plain = plain_maml(batch_statistics(ours.backbone), *ours.classifier.parameters(), *arguments, **settings)[1]
    torch.testing.assert_close(expected[0], plain.detach())


@needs_learn2learn
def test_absent_class_is_never_predicted_and_takes_no_part():
    ours = method()
    support, labels, query, _ = images()
    absent = torch.where(labels == WAY - 1, -1, labels)
    logits = ours(support, absent, query, WAY)
    assert (logits[..., -1] == -torch.inf).all()
    logits[..., :-1].logsumexp(-1).sum().backward()
    gradients = [parameter.grad.clone() for parameter in ours.parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (ours.classifier.weight.grad[-1] == 0).all()
    narrow = method(n_way=WAY - 1)  # the same network without the absent class's row
    narrow.load_state_dict({k: v[: WAY - 1] if "classifier" in k else v for k, v in ours.state_dict().items()})
    keep = (labels[0] != WAY - 1).nonzero().squeeze(1)
    expected = narrow(support[:, keep], labels[:, keep], query, WAY - 1)
    torch.testing.assert_close(logits[..., :-1], expected)
    torch.testing.assert_close(ours(support[:, keep], labels[:, keep], query, WAY - 1), expected)


@needs_learn2learn
@torch.no_grad()
def test_separable_data_are_solved_and_noise_is_chance():
    ours = method(torch.float32, n_filters=16, inner_steps=20).eval()  # untrained: one step is not enough
    support, labels, query, query_labels = images(5, dtype=torch.float32, spread=0.05)
    assert accuracy(ours(support, labels, query, WAY), query_labels).min() == 1
    ours = method(torch.float32).eval()
    noise = torch.randn(100, WAY * (SHOT + QUERY), 1, 16, 16, generator=seeding.generator(5))
    labels, query_labels = labels[:1].expand(100, -1), query_labels[:1].expand(100, -1)
    chance = accuracy(ours(noise[:, : WAY * SHOT], labels, noise[:, WAY * SHOT :], WAY), query_labels)
    assert abs(chance.mean() - 1 / WAY) < 4 * chance.std() / 100**0.5


@needs_learn2learn
def test_defaults_train_and_bf16_agrees(toy_sets):
    with seeding.fork(0, "test"):
        ours = create_method("maml-learn2learn", create_backbone("conv4", 1, 16, n_filters=8))
    sampler = EpisodeSampler(toy_sets[0], EpisodeSpec(5, 2, 3))
    episode = sampler.batch(0, 2).fill(sampler.data)
    ours.loss(episode).backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    arguments = (episode.support, episode.support_labels, episode.query, episode.n_way)
    with torch.no_grad():
        full = ours.eval()(*arguments).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            half = ours(*arguments).softmax(-1)
    assert (full - half).abs().mean() < 0.03


@needs_learn2learn
def test_steps_at_test_and_frozen_weights():
    support, labels, query, _ = images(1)
    ours = method(inner_steps=1, test_inner_steps=3)
    assert torch.equal(ours.eval()(support, labels, query, WAY), method(inner_steps=3)(support, labels, query, WAY))
    assert torch.equal(ours.train()(support, labels, query, WAY), method(inner_steps=1)(support, labels, query, WAY))
    ours.backbone.requires_grad_(False)
    learner = ours.adapt(support[0], labels[0], torch.ones(WAY, dtype=torch.bool))
    moved = [not torch.equal(a, b) for a, b in zip(learner.parameters(), ours.parameters(), strict=True)]
    assert moved == [False] * (len(moved) - 2) + [True, True]


@needs_learn2learn
def test_what_cannot_be_is_refused():
    support, labels, query, _ = images(1)
    with pytest.raises(EpisodeError, match=r"4 classes .* n_way=3"):
        method(n_way=3)(support, labels, query, WAY)
    with pytest.raises(ConfigError, match="order must be one of 1, 2, got 3"):
        method(order=3)
    with pytest.raises(ConfigError, match="at least 1, got 4 and 0"):
        method(test_inner_steps=0)
    with pytest.raises(ConfigError, match="needs a backbone"):
        create_method("maml-learn2learn", None)


def test_without_learn2learn_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    maml_learn2learn._load_wrapper.cache_clear()
    with pytest.raises(FewShotError, match="`make learn2learn` installs"):
        method()
