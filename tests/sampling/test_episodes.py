"""Episodes: disjoint, uniform, deterministic in (seed, index); impossible ones are refused."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet
from fewshot.errors import EpisodeError


def numbered(counts: list[int], groups: list[int] | None = None) -> ImageSet:
    """Image r is a single pixel of value r % 256; class c has counts[c] images."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = (np.arange(len(labels)) % 256).astype(np.uint8).reshape(-1, 1, 1, 1)
    return ImageSet(images, labels, [f"c{c}" for c in range(len(counts))], groups)


counts_and_spec = st.tuples(
    st.lists(st.integers(8, 30), min_size=4, max_size=12),
    st.tuples(st.integers(2, 4), st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
    st.integers(0, 2**40),
)


@settings(max_examples=60, deadline=None)
@given(counts_and_spec)
def test_support_and_query_are_distinct_images_of_their_classes(case):
    counts, (way, shot, query), ragged, seed = case
    imageset = numbered(counts)
    spec = EpisodeSpec((2, way), (1, shot), (1, query)) if ragged else EpisodeSpec(way, shot, query)
    episode = EpisodeSampler(imageset, spec, seed).batch(seed % 1000, 5)
    filled = episode.fill(imageset).to("cpu")
    assert torch.equal(filled.query_mask, episode.query_labels >= 0)
    assert filled.unpadded is episode.unpadded is (not ragged or (way, shot, query) == (2, 1, 1))
    assert not episode.unpadded or (filled.query_mask.all() and (episode.support_labels >= 0).all())
    for b in range(5):
        rows = torch.cat([episode.support[b], episode.query[b]])
        labels = torch.cat([episode.support_labels[b], episode.query_labels[b]])
        used = rows[labels >= 0]
        assert len(used.unique()) == len(used)
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            assert label == -1 or imageset.labels[row] == episode.classes[b, label]
        present = episode.classes[b][episode.classes[b] >= 0]
        assert len(present.unique()) == len(present) >= 2
        for label in range(len(present)):
            assert 1 <= (episode.support_labels[b] == label).sum() <= shot
            assert 1 <= (episode.query_labels[b] == label).sum() <= query
            if not ragged:
                assert (episode.support_labels[b] == label).sum() == shot


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 2**62))
def test_episode_depends_on_seed_and_index_only(first, count, seed):
    sampler = EpisodeSampler(numbered([20] * 9), EpisodeSpec((2, 5), 2, (1, 3)), seed)
    together = sampler.batch(first, count)
    alone = sampler.batch(first + count - 1, 1)
    for field in ("support", "support_labels", "query", "query_labels", "classes"):
        assert torch.equal(getattr(together, field)[-1:], getattr(alone, field)), field


def test_episodes_of_a_seed_never_change():
    """Pinned numbers: if they change, every published number changes."""
    episode = EpisodeSampler(numbered([20] * 9), EpisodeSpec(3, 1, 2), seed=7).batch(5, 1)
    again = EpisodeSampler(numbered([20] * 9), EpisodeSpec(3, 1, 2), seed=7).batch(0, 6)
    assert torch.equal(again.support[5:], episode.support)
    other = EpisodeSampler(numbered([20] * 9), EpisodeSpec(3, 1, 2), seed=8).batch(5, 1)
    assert not torch.equal(other.support, episode.support)


@pytest.mark.parametrize("n_shot", [1, 3])
def test_classes_images_and_places_are_uniform(n_shot):
    imageset = numbered([8, 10, 12, 9, 8, 8])
    episode = EpisodeSampler(imageset, EpisodeSpec(3, n_shot, 4), seed=1).batch(0, 20_000)
    classes = episode.classes.numpy()
    for place in range(3):
        assert chisquare(np.bincount(classes[:, place], minlength=6)).pvalue > 1e-4
    for rows in (episode.support.numpy().ravel(), episode.query.numpy().ravel()):
        for c in range(6):
            of_class = rows[imageset.labels[rows] == c]
            counts = np.bincount(of_class - of_class.min(), minlength=imageset.class_counts[c])
            assert chisquare(counts).pvalue > 1e-4


def test_pairs_of_classes_are_uniform():
    classes = EpisodeSampler(numbered([6] * 5), EpisodeSpec(2, 1, 1), seed=3).batch(0, 40_000).classes.numpy()
    pairs = np.bincount(classes[:, 0] * 5 + classes[:, 1], minlength=25).reshape(5, 5)
    assert (pairs.diagonal() == 0).all()
    assert chisquare(pairs[~np.eye(5, dtype=bool)]).pvalue > 1e-4


def test_ranges_are_uniform_with_both_ends():
    episode = EpisodeSampler(numbered([12] * 6), EpisodeSpec((2, 5), (1, 4), 2), seed=2).batch(0, 20_000)
    ways = (episode.classes >= 0).sum(1).numpy()
    assert chisquare(np.bincount(ways)[2:]).pvalue > 1e-4
    shots = (episode.support_labels.view(-1, 5, 4) >= 0).sum(2).flatten().numpy()
    assert chisquare(np.bincount(shots)[1:]).pvalue > 1e-4


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 3))
def test_no_group_on_both_sides(seed, n_shot):
    groups = np.random.default_rng(seed).integers(0, 40, 6 * 30)
    imageset = numbered([30] * 6, groups)
    episode = EpisodeSampler(imageset, EpisodeSpec(3, n_shot, 4, disjoint_groups=True), seed).batch(0, 10)
    for b in range(10):
        assert not set(groups[episode.support[b]]) & set(groups[episode.query[b]])
        assert len(set(episode.support[b].tolist()) | set(episode.query[b].tolist())) == 3 * (n_shot + 4)
    alone = EpisodeSampler(imageset, EpisodeSpec(3, n_shot, 4, disjoint_groups=True), seed).batch(7, 1)
    assert torch.equal(alone.query[0], episode.query[7])


def test_without_disjoint_groups_they_do_meet():
    imageset = numbered([30] * 6, np.arange(180) % 3)
    episode = EpisodeSampler(imageset, EpisodeSpec(3, 2, 4)).batch(0, 1)
    assert set(imageset.groups[episode.support[0]]) & set(imageset.groups[episode.query[0]])


def test_rotations_turn_the_pixels_and_copy_none():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 1, 3, 3)
    turned = ImageSet(pixels, [0, 1], ["a", "b"]).rotations_as_classes()
    assert turned.class_names[2:4] == ("a/rot090", "b/rot090")
    assert turned.images.data_ptr() == torch.from_numpy(pixels).data_ptr()
    rows = torch.arange(8)
    expected = [np.rot90(pixels[r % 2, 0], r // 2) for r in range(8)]
    assert np.array_equal(turned.gather(rows)[:, 0].numpy(), expected)
    assert turned.labels.tolist() == list(range(8))


def test_images_of_an_episode_are_its_rows():
    imageset = numbered([10] * 5)
    sampler = EpisodeSampler(imageset, EpisodeSpec(3, 1, 2))
    episode = sampler.batch(4, 6)
    images = episode.fill(imageset)
    assert images.support.shape == (6, 3, 1, 1, 1)
    assert torch.equal(images.query[..., 0, 0, 0].long(), episode.query % 256)
    assert torch.equal(images.query_labels, episode.query_labels)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (dict(n_way=7), ["6 classes", "7-way"]),
        (dict(n_way=3, n_shot=5, n_query=6), ["needs 11", "c0 (8)", "c2 (10)", "with_min_images(11)"]),
        (dict(n_way=3, disjoint_groups=True), ["no groups"]),
    ],
)
def test_impossible_episodes_are_refused_with_the_numbers(spec, words):
    with pytest.raises(EpisodeError) as error:
        EpisodeSampler(numbered([8, 20, 10, 30, 30, 30]), EpisodeSpec(**{"n_query": 2, **spec}))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("spec", [dict(n_way=1), dict(n_shot=0), dict(n_query=(3, 2)), dict(n_way=(0, 4))])
def test_senseless_specs_are_refused(spec):
    with pytest.raises(EpisodeError, match=next(iter(spec))):
        EpisodeSpec(**spec)


def test_groups_that_cannot_be_parted_are_named():
    groups = np.zeros(40, int)
    groups[20:] = np.arange(20)
    with pytest.raises(EpisodeError, match=r"two groups.*c0 \(1\)"):
        EpisodeSampler(numbered([20, 20], groups), EpisodeSpec(2, 1, 2, disjoint_groups=True))
    crossed = numbered([20, 20], np.arange(40) % 20)  # 16 support images hit nearly every group of both classes
    with pytest.raises(EpisodeError, match=r"1000 attempts.*'c0': 20"):
        EpisodeSampler(crossed, EpisodeSpec(2, 8, 11, disjoint_groups=True)).batch(0, 1)


def test_rotated_and_plain_rows_share_groups():
    imageset = ImageSet(np.zeros((8, 1, 2, 2), np.uint8), [0] * 4 + [1] * 4, ["a", "b"], groups=list("uvwxuvwx"))
    assert np.array_equal(imageset.rotations_as_classes().groups, np.tile([0, 1, 2, 3], 8))


def test_drawing_is_fast():
    sampler = EpisodeSampler(numbered([20] * 1692), EpisodeSpec(5, 1, 15))
    sampler.batch(0, 1000)
    rates = []
    for i in range(5):
        start = time.perf_counter()
        sampler.batch(1000 * i, 1000)
        rates.append(1000 / (time.perf_counter() - start))
    assert max(rates) > 20_000
