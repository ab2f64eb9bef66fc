"""Matching Networks compared with slow loops written from the paper's equations, and with hand-worked numbers."""

import math

import pytest
import torch

from fewshot import EpisodeSampler, EpisodeSpec, create_backbone, create_method
from fewshot.errors import ConfigError
from fewshot.methods.matching import MatchingNetwork, class_logsumexp
from fewshot.runtime import seeding

DIM = 5
RAGGED = torch.tensor([[0, 2, 1, -1, 2, 0, 2], [1, 1, -1, 0, 2, -1, 1]])  # unequal shots, padding anywhere
VARIANTS = [
    {},
    {"similarity": "squared_euclidean"},
    {"full_context": True, "processing_steps": 3},
    {"similarity": "squared_euclidean", "full_context": True, "processing_steps": 1},
]


def made(dtype: torch.dtype = torch.float64, **options: object) -> MatchingNetwork:
    if options.get("full_context"):
        options.setdefault("feature_dim", DIM)
    with seeding.fork(0, "matching"):
        return create_method("matching", None, **options).to(dtype)


def drawn(n_support: int = 7, n_query: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeding.generator(seed, "matching")
    return tuple(torch.randn(2, n, DIM, dtype=torch.float64, generator=generator) for n in (n_support, n_query))


def lstm_step(weights, x, h, c):
    """One step of an LSTM, gates in the order of torch: input, forget, cell, output."""
    w_ih, w_hh, b_ih, b_hh = weights
    i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def weights_of(module, suffix=""):
    return [getattr(module, f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def context_by_loops(context, support: list, queries: list) -> tuple[list, list]:
    """Appendix A of Vinyals et al. 2016, vector by vector; `support` has no padding."""
    zero = torch.zeros(DIM, dtype=torch.float64)

    def one_way(weights, xs):
        h, c, hs = zero, zero, []
        for x in xs:
            h, c = lstm_step(weights, x, h, c)
            hs.append(h)
        return hs

    forwards = one_way(weights_of(context.forwards, "_l0"), support)
    backwards = one_way(weights_of(context.backwards, "_l0"), support[::-1])[::-1]
    g = [f + b + x for f, b, x in zip(forwards, backwards, support, strict=True)]

    w_ih, w_hh, b_ih, b_hh = weights_of(context.reader)
    # LSTM(f', [h, r], c): the state [h, r] has 2 D columns, of which our cell keeps r's beside the input's
    w_state = torch.cat([w_hh, w_ih[:, DIM:]], 1)
    embedded = []
    for query in queries:
        h, c = query, zero  # h_hat = 0, h = h_hat + f'
        for _ in range(context.processing_steps):
            scores = [torch.dot(h, x) for x in g]
            total = sum(math.exp(s) for s in scores)
            read = sum(math.exp(s) / total * x for s, x in zip(scores, g, strict=True))
            h_hat, c = lstm_step((w_ih[:, :DIM], w_state, b_ih, b_hh), query, torch.cat([h, read]), c)
            h = h_hat + query
        embedded.append(h)
    return g, embedded


def probabilities_by_loops(method, support, labels, query, n_way):
    """P(class | query) of one episode: the sum of attention over the class's support images."""
    xs = [x for x, y in zip(support, labels.tolist(), strict=True) if y != -1]
    ys = [y for y in labels.tolist() if y != -1]
    queries = list(query)
    if method.full_context:
        xs, queries = context_by_loops(method.context, xs, queries)
    rows = []
    for q in queries:
        if method.similarity_name == "cosine":
            scores = [float(method.scale * torch.dot(q, x) / (q.norm() * x.norm())) for x in xs]
        else:
            scores = [-float((q - x).square().sum()) for x in xs]
        attention = [math.exp(s) for s in scores]
        rows.append(
            [sum(a for a, y in zip(attention, ys, strict=True) if y == k) / sum(attention) for k in range(n_way)]
        )
    return rows


@pytest.mark.parametrize("options", VARIANTS)
@torch.no_grad()
def test_equals_loops_of_the_equations(options):
    method = made(**options)
    support, query = drawn()
    probabilities = method(support, RAGGED, query, 3).exp()
    expected = [probabilities_by_loops(method, support[b], RAGGED[b], query[b], 3) for b in range(2)]
    torch.testing.assert_close(probabilities, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_by_hand_with_unequal_shots():
    method = made(torch.float32, initial_scale=math.log(2))
    support = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [0.0, -1.0], [9.0, 9.0]]])
    logits = method(support, torch.tensor([[0, 1, 1, -1]]), torch.tensor([[[5.0, 0.0]]]), 2)
    # cosines 1, 0, 0 (the last is padding): attention 2 : 1 : 1, so both classes have 1/2
    torch.testing.assert_close(logits.exp(), torch.tensor([[[0.5, 0.5]]]))
    # without one image of class 1 attention is 2 : 1
    logits = method(support, torch.tensor([[0, 1, -1, -1]]), torch.tensor([[[5.0, 0.0]]]), 2)
    torch.testing.assert_close(logits.exp(), torch.tensor([[[2 / 3, 1 / 3]]]))


def test_loss_is_the_negative_logarithm_of_the_attention(toy_sets):
    with seeding.fork(0, "test"):
        method = create_method("matching", create_backbone("conv4", 1, 16, n_filters=8)).eval()
    sampler = EpisodeSampler(toy_sets[0], EpisodeSpec(3, (1, 4), 2))
    episode = sampler.batch(0, 2).fill(sampler.data)
    loss, logits = method.loss_and_logits(episode)
    probabilities = logits.detach().exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 6))
    expected = [-math.log(probabilities[b, i, episode.query_labels[b, i]]) for b in range(2) for i in range(6)]
    assert float(loss.detach()) == pytest.approx(sum(expected) / 12, rel=1e-5)


def test_one_shot_squared_euclidean_is_protonet():
    support, query = drawn(n_support=6, n_query=20)
    labels = torch.tensor([[3, 0, -1, 1, 4, 2], [2, 4, 1, 0, -1, 3]])
    expected = create_method("protonet", None)(support, labels, query, 5).log_softmax(-1)
    torch.testing.assert_close(made(similarity="squared_euclidean")(support, labels, query, 5), expected)


def test_far_classes_keep_finite_logits_and_gradients():
    method = made(torch.float32, similarity="squared_euclidean")
    support = torch.tensor([[[0.0], [100.0], [101.0], [7.0]]], requires_grad=True)
    logits = method(support, torch.tensor([[0, 1, 1, -1]]), torch.tensor([[[0.0]]]), 3)
    # attention e^0, e^-10000 (+ e^-10201, which is nothing next to it); class 2 is not there
    assert logits.tolist() == [[[0.0, -10000.0, -math.inf]]]
    torch.nn.functional.cross_entropy(logits[0], torch.tensor([1])).backward()
    # d/dx of (0 - x)² for the class's nearest image, minus that of the winning class's image at the query itself
    torch.testing.assert_close(support.grad.flatten(), torch.tensor([0.0, 200.0, 0.0, 0.0]))


def test_class_logsumexp_without_padding_is_logsumexp():
    values = torch.randn(2, 3, 6, dtype=torch.float64, generator=seeding.generator(0))
    labels = torch.tensor([[0, 1, 0, 2, 2, 2]]).expand(2, -1)
    sums, present = class_logsumexp(values, labels, 3)
    expected = torch.stack([values[..., c].logsumexp(-1) for c in ([0, 2], [1], [3, 4, 5])], -1)
    torch.testing.assert_close(sums, expected)
    assert present.all()


@pytest.mark.parametrize("options", VARIANTS)
def test_gradients(options):
    method = made(**options)
    support, query = (x.requires_grad_() for x in drawn(n_query=2))
    parameters = dict(method.named_parameters())

    def logits(support, query, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(method, named, (support, RAGGED, query, 3))

    assert torch.autograd.gradcheck(logits, (support, query, *parameters.values()), fast_mode=True)


@torch.no_grad()
def test_padding_takes_no_part_in_the_context_and_order_does():
    method = made(full_context=True)
    support, query = drawn()
    labels = torch.tensor([[0, -1, 1, 2, -1, 1, 0]]).expand(2, -1)
    keep = labels[0] != -1
    expected = method(support[:, keep], labels[:, keep], query, 3)
    torch.testing.assert_close(method(support, labels, query, 3), expected)
    elsewhere = torch.where(keep[:, None], support, 1e3)
    torch.testing.assert_close(method(elsewhere, labels, query, 3), expected)
    flipped = method(support.flip(1), labels.flip(1), query, 3)
    assert (flipped - expected).abs().max() > 1e-4  # the paper's biLSTM reads the support set in order
    alone = torch.cat([method(support, labels, query[:, i : i + 1], 3) for i in range(4)], 1)
    torch.testing.assert_close(alone, expected)


def test_full_context_takes_the_feature_dim_of_the_backbone():
    backbone = create_backbone("conv4", 1, 16, n_filters=8)
    method = create_method("matching", backbone, full_context=True)
    assert method.context.reader.hidden_size == backbone.feature_dim == 8
    images = torch.randint(0, 256, (1, 5, 1, 16, 16), dtype=torch.uint8, generator=seeding.generator(0))
    logits = method(images[:, :3], torch.tensor([[0, 1, 2]]), images[:, 3:], 3)
    logits[..., 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.context.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "manhattan"}, "cosine, squared_euclidean, got 'manhattan'"),
        ({"full_context": True}, "needs feature_dim"),
        ({"full_context": True, "feature_dim": 5, "processing_steps": 0}, "at least 1, got 0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        create_method("matching", None, **options)


def test_feature_dim_must_be_the_backbones():
    with pytest.raises(ConfigError, match="feature_dim is 7, but the backbone's features have 8"):
        create_method("matching", create_backbone("conv4", 1, 16, n_filters=8), full_context=True, feature_dim=7)
