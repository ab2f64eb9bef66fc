"""Draws of Baseline and Baseline++: independent between episodes, and always the same for one episode."""

import torch
from torch.nn import functional as F

from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.methods import accuracy
from fewshot.methods.baseline import BaselinePlusPlus
from fewshot.methods.solvers.sgd_draws import N_PASSES, Draws, _draw_bits, draw
from fewshot.runtime import seeding


def episodes(n_episodes: int, n_way: int, n_shot: int, width: int, seed: int = 0):
    """Support (B, n_way * n_shot, D) and its labels."""
    generator = seeding.generator(seed, "test draws")
    labels = torch.arange(n_way).repeat_interleave(n_shot).expand(n_episodes, -1).contiguous()
    centres = 0.5 * torch.randn(n_episodes, n_way, width, generator=generator).repeat_interleave(n_shot, 1)
    return centres + torch.randn(centres.shape, generator=generator), labels


def heads(draws: Draws) -> torch.Tensor:
    """Initial weights and biases (B, n_way, D + 1), in units of 1/√D."""
    return torch.cat([draws.weight, draws.bias[..., None]], -1) * draws.weight.shape[-1] ** 0.5


def test_draws_are_those_of_the_authors():
    support, labels = episodes(40, 5, 3, 64)
    draws = draw(support, labels, 5, seed=0)
    assert torch.equal(
        draws.order.sort(-1).values, torch.arange(15).expand(40, N_PASSES, 15)
    )  # each pass sees each image once
    # the k-th place of a pass is uniform over the images: mean 7, standard error of each mean below
    assert (draws.order.double().mean((0, 1)) - 7).abs().max() < 5 * (224 / 12 / 4000) ** 0.5
    assert heads(draws).abs().max() <= 1  # uniform in ±1/√D
    assert abs(heads(draws).var() - 1 / 3) < 0.02
    other = draw(support, labels, 5, seed=1)
    assert (other.weight == draws.weight).double().mean() < 0.001
    assert (other.order != draws.order).any(-1).double().mean() > 0.99


def test_splitmix64_is_the_published_one():
    """The first outputs for seed 1234567, with which implementations of splitmix64.c are tested."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    bits = _draw_bits(torch.arange(1, 5), 1234567)
    assert [number % 2**64 for number in bits.tolist()] == expected


def test_episodes_draw_independently():
    """No two episodes share a row of their heads or an order, and entries are uncorrelated."""
    support, labels = episodes(4000, 3, 1, 8)
    draws = draw(support, labels, 3, seed=0)
    drawn = heads(draws)  # (4000, 3, 9)
    assert len(drawn.flatten(0, 1).unique(dim=0)) == 12000
    assert len(draws.order.flatten(1).unique(dim=0)) == 4000
    # entry by entry over the episodes: a uniform number has mean 0, variance 1/3 and no correlation with the others
    entries = drawn.flatten(1).double()  # (4000, 27)
    assert entries.mean(0).abs().max() < 4.5 * (1 / 3 / 4000) ** 0.5
    assert (entries.var(0) - 1 / 3).abs().max() < 4.5 * (4 / 45 / 4000) ** 0.5
    assert (entries.T.corrcoef() - torch.eye(27)).abs().max() < 4.5 / 4000**0.5
    shares = torch.stack([((entries + 1) * 5).long() == tenth for tenth in range(10)]).double().mean(1)  # (10, 27)
    assert (shares - 0.1).abs().max() < 4.5 * (0.09 / 4000) ** 0.5
    # the second pass is no fixed rearrangement of the first: all six of three images are as frequent
    first, second = draws.order[:, 0], draws.order[:, 1]
    rearranged = second.gather(1, first.argsort(1)) @ torch.tensor([9, 3, 1])
    counts = rearranged.unique(return_counts=True)[1]
    assert len(counts) == 6
    assert (counts / 4000 - 1 / 6).abs().max() < 4.5 * (5 / 36 / 4000) ** 0.5


def test_an_episode_draws_the_same_wherever_it_is_met():
    """Draws do not depend on the batch, the order of images, the numbering of classes, or padding."""
    support, labels = episodes(6, 4, 3, 16)
    for b in range(6):  # episode b lacks its images b, b + 3, b + 6 …; episode 1 also its last class
        labels[b, b :: 3 + b] = -1
    labels[1, labels[1] == 3] = -1
    draws = draw(support, labels, 4, seed=0)
    shuffled = torch.randperm(12, generator=seeding.generator(1))
    renamed = torch.tensor([5, 0, 6, 2])  # of seven classes, of which three have no images
    moved = draw(support[:, shuffled], torch.where(labels >= 0, renamed[labels], -1)[:, shuffled], 7, seed=0)
    for b in range(6):
        real, classes = labels[b] >= 0, labels[b][labels[b] >= 0].unique()
        order = draws.order[b, :, : real.sum()]
        assert torch.equal(heads(moved)[b, renamed[classes]], heads(draws)[b, classes])
        assert torch.equal(shuffled[moved.order[b, :, : real.sum()]], order)
        alone = draw(support[b : b + 1, real], labels[b : b + 1, real], 4, seed=0)
        assert torch.equal(heads(alone)[0, classes], heads(draws)[b, classes])
        assert torch.equal(real.nonzero()[:, 0][alone.order[0]], order)


def test_rounding_changes_no_draw():
    support, labels = episodes(500, 5, 1, 64)
    noise = 1e-7 * torch.randn(support.shape, generator=seeding.generator(0))
    draws, rounded = draw(support, labels, 5, seed=0), draw(support * (1 + noise), labels, 5, seed=0)
    assert not torch.equal(support * (1 + noise), support)
    assert torch.equal(heads(rounded), heads(draws))
    assert torch.equal(rounded.order, draws.order)


@torch.no_grad()
def test_the_interval_holds_what_the_head_draws():
    """Means over 400 episodes, of eight head seeds, differ by no more than the sampling of episodes explains.

    Features are positive, as behind a ReLU, and vary most along one direction, the same in all episodes: so the ranks
    along any direction tell where a class lies on it, and a row that goes with a rank would favour the same classes
    in every episode.
    """
    generator = seeding.generator(0, "test interval")
    common = F.normalize(torch.randn(64, generator=generator), dim=0)
    centres = 2 + 0.5 * torch.randn(400, 5, 64, generator=generator)
    centres += 10 * torch.randn(400, 5, 1, generator=generator) * common
    support, query = (centres + torch.randn(centres.shape, generator=generator) for _ in range(2))
    labels = torch.arange(5).expand(400, -1)
    accuracies = [accuracy(BaselinePlusPlus(None, seed=k)(support, labels, query, 5), labels) for k in range(8)]
    assert torch.stack(accuracies).mean(1).std() < compute_mean_interval(accuracies[0].numpy()).half_width_95


def test_drawing_waits_for_no_value():
    """Tensors without values raise if the host must read a value, which would make it wait for a GPU."""
    support, labels = (tensor.to("meta") for tensor in episodes(3, 4, 2, 10))
    draws = draw(support, labels, 4, seed=0)
    assert draws.weight.shape == (3, 4, 10)
    assert draws.order.shape == (3, N_PASSES, 8)
