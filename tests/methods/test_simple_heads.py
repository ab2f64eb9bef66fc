"""SimpleShot, nearest neighbours and Meta-Baseline compared with slow loops, scikit-learn and hand-worked numbers."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from fewshot import create_backbone
from fewshot.errors import ConfigError, DataError, FewShotError
from fewshot.methods.meta_baseline import MetaBaseline
from fewshot.methods.nearest import NearestNeighbours
from fewshot.methods.prototypical import PrototypicalNetwork
from fewshot.methods.simpleshot import SimpleShot
from fewshot.runtime import seeding

WAY, DIM = 4, 6
LABELS = torch.tensor([[0, 0, 0, 1, 2, 2, 3], [3, 1, -1, -1, 2, -1, 0], [2, 0, 2, 2, -1, 1, 1]])


def normal(*shape: int, name: str = "", dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=seeding.generator(0, "heads", name, *shape), dtype=dtype)


def episodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support, labels, queries: 3 episodes, unequal shots, padding; class 3 is absent from the last."""
    return normal(3, LABELS.shape[1], DIM, name="support"), LABELS, normal(3, 5, DIM, name="query")


def norm(vector: list[float]) -> float:
    return math.sqrt(sum(value * value for value in vector))


def mean(vectors: list[list[float]]) -> list[float]:
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def slow_logits(support, labels, query, score) -> torch.Tensor:
    """`score(supports of one class, one query)` for each episode, query and class, as lists of floats."""
    out = torch.full((*query.shape[:2], WAY), -torch.inf, dtype=torch.float64)
    for b in range(len(support)):
        for c in set(labels[b].tolist()) - {-1}:
            images = [image.tolist() for image, label in zip(support[b], labels[b], strict=True) if label == c]
            for q in range(query.shape[1]):
                out[b, q, c] = score(images, query[b, q].tolist())
    return out


# Prototypical Networks


def test_temperature_divides_the_distances():
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]]])
    labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[1.0, 1.0]]])
    logits = PrototypicalNetwork(None, temperature=4.0).head(support, labels, query, 2)
    assert logits.tolist() == [[[-1 / 4, -5 / 4]]]  # means (1, 0) and (0, 3): squared distances 1 and 5


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_an_impossible_temperature_is_named(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        PrototypicalNetwork(None, temperature=temperature)


# SimpleShot


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_simpleshot_is_the_papers_loop(transform):
    base = 2 + normal(50, DIM, name="base")
    centre = mean(base.tolist()) if transform == "CL2N" else [0.0] * DIM

    def transformed(image):
        moved = [value - c for value, c in zip(image, centre, strict=True)]
        return moved if transform == "UN" else [value / norm(moved) for value in moved]

    def score(images, query):
        prototype, moved = mean([transformed(image) for image in images]), transformed(query)
        return -sum((a - b) ** 2 for a, b in zip(prototype, moved, strict=True))

    method = SimpleShot(None, transform=transform).double()
    method.learn_base_classes(base, torch.zeros(50, dtype=torch.int64))
    support, labels, query = episodes()
    torch.testing.assert_close(
        method(support, labels, query, WAY), slow_logits(support, labels, query, score), rtol=1e-10, atol=1e-10
    )


def test_simpleshot_by_hand():
    # base mean (1, 1); supports become (1, 0), (0, 1) | (0, -1), their means (.5, .5) | (0, -1), the query (.6, .8);
    # averaging before normalising would put class 0 at (3, 1) / √10
    method = SimpleShot(None)
    method.learn_base_classes(torch.tensor([[0.0, 2.0], [2.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
    assert method.base_mean.tolist() == [1.0, 1.0]
    support = torch.tensor([[[4.0, 1.0], [1.0, 2.0], [1.0, -6.0]]])
    logits = method(support, torch.tensor([[0, 0, 1]]), torch.tensor([[[4.0, 5.0]]]), 2)
    torch.testing.assert_close(logits, torch.tensor([[[-(0.1**2 + 0.3**2), -(0.6**2 + 1.8**2)]]]))


def test_simpleshot_says_what_to_call():
    for backbone in (None, create_backbone("conv4", 1, 16, n_filters=8)):
        method = SimpleShot(backbone)
        with pytest.raises(FewShotError, match=r"call learn_base_classes\(features, labels\)"):
            method.head(normal(1, 2, 8), torch.tensor([[0, 1]]), normal(1, 1, 8), 2)
        for features in (normal(0, 8), normal(8)):
            with pytest.raises(DataError, match=r"got \("):
                method.learn_base_classes(features, torch.zeros(len(features), dtype=torch.int64))
    with pytest.raises(DataError, match=r"expected features \(n, 8\) of n > 0 images, got \(5, 9\)"):
        method.learn_base_classes(normal(5, 9), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ConfigError, match="'cl2n'"):
        SimpleShot(None, transform="cl2n")


def test_simpleshot_needs_base_features_for_cl2n_only():
    assert SimpleShot(None).needs_base_features
    for transform in ("UN", "L2N"):
        method = SimpleShot(None, transform=transform)
        assert not method.needs_base_features
        method.learn_base_classes(normal(5, DIM), torch.zeros(5, dtype=torch.int64))
        assert not method.state_dict()


@pytest.mark.parametrize("make_backbone", [lambda: None, lambda: create_backbone("conv4", 1, 16, n_filters=2)])
def test_simpleshot_state_survives_saving(make_backbone):
    method = SimpleShot(make_backbone())
    dim = 3 if method.backbone is None else method.backbone.feature_dim
    unlearnt = SimpleShot(make_backbone())
    unlearnt.load_state_dict(method.state_dict())
    assert not unlearnt.base_mean_learnt
    method.learn_base_classes(normal(5, dim), torch.zeros(5, dtype=torch.int64))
    loaded = SimpleShot(make_backbone())
    loaded.load_state_dict(method.state_dict())
    assert loaded.base_mean_learnt
    torch.testing.assert_close(loaded.base_mean, normal(5, dim).mean(0).float())
    nested = nn.Sequential(SimpleShot(make_backbone()))  # a prefix before the buffers' names
    nested.load_state_dict(nn.Sequential(method).state_dict())
    assert torch.equal(nested[0].base_mean, method.base_mean)


def test_simpleshot_refuses_a_foreign_mean():
    small, large = SimpleShot(None), SimpleShot(None)
    small.learn_base_classes(normal(5, 3), torch.zeros(5, dtype=torch.int64))
    large.learn_base_classes(normal(5, 4), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="size mismatch for base_mean"):
        large.load_state_dict(small.state_dict())


def test_simpleshot_learns_anew_each_time():
    method, labels = SimpleShot(None), torch.zeros(5, dtype=torch.int64)
    method.learn_base_classes(torch.full((5, 3), 7.0), labels)
    method.learn_base_classes(torch.full((5, 3), 9.0).requires_grad_(), labels)
    assert method.base_mean.tolist() == [9.0, 9.0, 9.0]
    assert not method.base_mean.requires_grad


# nearest neighbours


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_nearest_is_the_slow_loop(metric):
    def distance(a, b):
        if metric == "euclidean":
            return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / norm(a) / norm(b)

    support, labels, query = episodes()
    expected = slow_logits(support, labels, query, lambda images, q: -min(distance(image, q) for image in images))
    torch.testing.assert_close(
        NearestNeighbours(None, metric=metric)(support, labels, query, WAY), expected, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_nearest_is_scikit_learns_classifier(metric, k):
    """With equal votes scikit-learn chooses the smallest label, we the class with the nearest image."""
    n_ties = 0
    support, query = normal(30, 12, DIM, name="support"), normal(30, 20, DIM, name="query")
    labels = torch.arange(WAY).repeat(30, 3)
    predicted = NearestNeighbours(None, k=k, metric=metric)(support, labels, query, WAY).argmax(-1)
    for b in range(30):
        oracle = KNeighborsClassifier(k, algorithm="brute", metric=metric).fit(support[b], labels[b])
        votes = oracle.predict_proba(query[b])
        rows = oracle.kneighbors(query[b], return_distance=False)  # (n_query, k), the nearest first
        for q, chosen in enumerate(predicted[b].tolist()):
            tied = np.flatnonzero(votes[q] == votes[q].max())
            n_ties += len(tied) > 1
            nearest_tied = next(label for label in labels[b, rows[q]].tolist() if label in tied)
            assert chosen == (oracle.predict(query[b, q : q + 1])[0] if len(tied) == 1 else nearest_tied)
    assert (n_ties == 0) == (k == 1)


def test_votes_by_hand():
    # distances of the query 0 from 1, 4 (class 0), 2, 3 (class 1), 9 (class 2), -1 is padding at 0.5
    support = torch.tensor([[[1.0], [4.0], [2.0], [3.0], [9.0], [0.5]]])
    labels = torch.tensor([[0, 0, 1, 1, 2, -1]])
    query = torch.zeros(1, 1, 1)
    logits = NearestNeighbours(None)(support, labels, query, 3)
    torch.testing.assert_close(logits, torch.tensor([[[-1.0, -4.0, -81.0]]]))
    votes = {k: NearestNeighbours(None, k=k)(support, labels, query, 3)[0, 0] for k in (2, 3, 4, 5, 50)}
    assert votes[2].argmax() == 0  # one vote each for 0 and 1: class 0 is nearer
    assert votes[3].argmax() == 1
    assert votes[4].argmax() == 0  # two votes each
    for k, expected in ((2, [1, 1, 0]), (3, [1, 2, 0]), (4, [2, 2, 0]), (5, [2, 2, 1]), (50, [2, 2, 1])):
        assert votes[k].ceil().tolist() == expected  # what is taken off is less than a half
        assert votes[k].round().tolist() == expected


def test_all_images_vote_where_an_episode_has_fewer_than_k():
    support, labels, query = episodes()
    logits = NearestNeighbours(None, k=6)(support, labels, query, WAY)
    assert (logits[1].round() == 1).all()  # 4 images, one of each class, and 3 of padding
    junk = torch.where((labels == -1)[..., None], torch.nan, support)
    assert torch.equal(NearestNeighbours(None, k=6)(junk, labels, query, WAY), logits)
    alone = NearestNeighbours(None, k=6)(support[1:2, [0, 1, 4, 6]], labels[1:2, [0, 1, 4, 6]], query[1:2], WAY)
    torch.testing.assert_close(logits[1:2], alone)
    assert (logits[2, :, 3] == -torch.inf).all()
    assert logits[2, :, :3].isfinite().all()


@pytest.mark.parametrize("k", [1, 3])
def test_equally_far_images_all_vote_whatever_their_order_and_names(k):
    method = NearestNeighbours(None, k=k)
    corners = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [2, 0], [-2, 0], [0, 2], [0, -2]])[None]
    labels, renamed = torch.tensor([[0, 1, 0, 1, 2, 2, 2, 2]]), torch.tensor([2, 0, 1])
    query = torch.zeros(1, 1, 2)
    logits = method(corners, labels, query, 3)
    assert logits[0, 0, 0] == logits[0, 0, 1] > logits[0, 0, 2]
    for seed in range(10):
        order = torch.randperm(8, generator=seeding.generator(seed))
        again = method(corners[:, order], renamed[labels[:, order]], query, 3)
        assert torch.equal(again[..., renamed], logits)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 3])
def test_nearest_has_finite_gradients_also_where_the_query_is_a_support_image(metric, k):
    support, labels, query = episodes()
    query = torch.cat([support[:, :1], query], 1).requires_grad_()
    support.requires_grad_()
    logits = NearestNeighbours(None, k=k, metric=metric)(support, labels, query, WAY)
    logits.softmax(-1)[..., 0].sum().backward()
    for tensor in (support, query):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0
    assert (support.grad[labels == -1] == 0).all()


@pytest.mark.parametrize("k", [1, 3])
def test_identical_images_give_finite_logits(k):
    for metric in ("euclidean", "cosine"):
        same = torch.full((1, 6, 3), 0.3)
        logits = NearestNeighbours(None, k=k, metric=metric)(same, torch.tensor([[0, 0, 1, 1, 2, 2]]), same, 3)
        torch.testing.assert_close(logits, torch.full_like(logits, 0.0 if k == 1 else 2.0), atol=0.5, rtol=0)


def test_nearest_rejects_what_it_cannot_do():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        NearestNeighbours(None, k=0)
    with pytest.raises(ConfigError, match="'manhattan'"):
        NearestNeighbours(None, metric="manhattan")


# Meta-Baseline


def test_meta_baseline_is_the_papers_loop():
    def score(images, query):
        prototype = mean(images)
        return 7.0 * sum(a * b for a, b in zip(prototype, query, strict=True)) / norm(prototype) / norm(query)

    support, labels, query = episodes()
    logits = MetaBaseline(None, init_temperature=7.0).double()(support, labels, query, WAY)
    torch.testing.assert_close(logits, slow_logits(support, labels, query, score), rtol=1e-10, atol=1e-10)


def test_meta_baseline_by_hand():
    # raw means (3, 4) and (0, 1); a mean of normalised supports would be another direction than (3, 4)
    support = torch.tensor([[[6.0, 0.0], [0.0, 8.0], [0.0, 1.0]]])
    logits = MetaBaseline(None)(support, torch.tensor([[0, 0, 1]]), torch.tensor([[[2.0, 0.0]]]), 2)
    torch.testing.assert_close(logits, torch.tensor([[[6.0, 0.0]]]))


def test_temperature_starts_at_ten_and_is_learned():
    method = MetaBaseline(None)
    assert method.temperature.item() == 10.0
    assert method.temperature.requires_grad
    support, labels, query = normal(1, 4, 3), torch.tensor([[0, 1, 0, 1]]), normal(1, 5, 3)
    method(support, labels, query, 2)[..., 0].sum().backward()
    similarities = torch.cosine_similarity(query, support[:, ::2].mean(1, keepdim=True), dim=-1)  # to class 0
    torch.testing.assert_close(method.temperature.grad.double(), similarities.sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: SimpleShot(None), lambda: MetaBaseline(None)])
def test_gradients(make):
    method = make().double()
    if isinstance(method, SimpleShot):
        method.learn_base_classes(normal(9, DIM), torch.zeros(9, dtype=torch.int64))
    support, labels, query = episodes()

    def finite_logits(support, query):
        logits = method(support, labels, query, WAY)
        return logits.masked_fill(logits.isinf(), 0)

    assert torch.autograd.gradcheck(finite_logits, (support.requires_grad_(), query.requires_grad_()))
