"""Densities of colours and sizes against scipy's Gaussians, and what `aligned` makes of them."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from fewshot import create_backbone, create_method
from fewshot.errors import ConfigError
from fewshot.methods.cue_densities import SHRINKAGE, score_colours, score_sizes
from fewshot.runtime import seeding

LABELS = torch.tensor([[0, 0, 1, 1, 1, 2, -1]])
LAYOUT = (4, 1, 2)
N_GLOBAL = 9  # of them 3 colours and a size


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeding.generator(seed, "cues"), dtype=torch.float64)


def test_colours_are_gaussians_with_one_covariance():
    support, query = draw(1, 7, 3), draw(1, 5, 3, seed=1)
    x, y = support[0, :6].numpy(), LABELS[0, :6].numpy()
    means = np.stack([x[y == c].mean(0) for c in range(3)])
    within = x - means[y]
    covariance = within.T @ within / 6
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 3 * np.eye(3)
    expected = np.stack([multivariate_normal(m, covariance).logpdf(query[0].numpy()) for m in means], 1)
    found = score_colours(support.masked_fill(LABELS[..., None] < 0, 0.0), LABELS, query, 3)[0].numpy()
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    np.testing.assert_allclose(found + constant, expected, rtol=1e-9)


def test_one_image_a_class_tells_no_covariance():
    support, query = draw(2, 4, 3), draw(2, 5, 3, seed=1)
    labels = torch.tensor([[0, 1, 2, -1], [0, 1, 2, 2]])
    found = score_colours(support, labels, query, 3)
    assert (found[0] == 0).all()
    assert (found[1] != 0).all()


def test_sizes_are_gaussians_of_a_known_spread():
    support, query = draw(1, 7, 1), draw(1, 5, 1, seed=1)
    found = score_sizes(support.masked_fill(LABELS[..., None] < 0, 0.0), LABELS, query, 3, 0.4)[0].numpy()
    for label, n in enumerate((2, 3, 1)):
        mean = support[0, LABELS[0] == label].mean()
        own = norm(mean, 0.4 * np.sqrt(1 + 1 / n)).logpdf(query[0, :, 0].numpy())
        np.testing.assert_allclose(found[:, label] + np.log(1 / (0.4 * np.sqrt(2 * np.pi))), own, rtol=1e-9)


def test_aligned_adds_what_its_cues_say():
    width = N_GLOBAL + 8
    support, query = (draw(1, n, width, seed=n).float() for n in (7, 5))
    plain = create_method("aligned", None, layout=LAYOUT)
    cued = create_method("aligned", None, layout=LAYOUT, cues=(3, 1), colour_weight=0.2, size_spread=0.5)
    seen = support.masked_fill(LABELS[..., None] < 0, 0.0)
    colours = score_colours(seen[..., 5:8], LABELS, query[..., 5:8], 3)
    sizes = score_sizes(seen[..., 8:9], LABELS, query[..., 8:9], 3, 0.5)
    expected = plain(support, LABELS, query, 3) + 0.2 * colours + sizes
    torch.testing.assert_close(cued(support, LABELS, query, 3), expected)
    assert colours.std() > 0.1 < sizes.std()


def test_cues_are_those_of_the_backbone():
    views = {"turns": 8, "rings": "blocks.1", "find_circle": True, "colour": 0.3, "radius": 1.0}
    backbone = create_backbone("conv4", 3, 32, views=views)
    assert backbone.cues == (84, 1)
    method = create_method("aligned", backbone, colour_weight=0.1, size_spread=0.4)
    assert method.cues == (84, 1)
    images = torch.randint(256, (1, 6, 3, 32, 32), dtype=torch.uint8, generator=seeding.generator(0, "images"))
    features = method.encode(images)
    log_radius = features[..., backbone.feature_dim - np.prod(backbone.layout) - 1] * 0.1
    assert ((log_radius < 0.1) & (log_radius > -1)).all()  # the radius is 0.45 to 1 of half the side, and shifts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour_weight": 0.1}, "the features have 0 colours and 0 sizes"),
        ({"size_spread": 0.4, "cues": (3, 0)}, "the features have 3 colours and 0 sizes"),
        ({"cues": (3, -1)}, "cues are two numbers"),
        ({"cues": (3, 1), "size_spread": -1}, "not negative, got 0.0 and -1"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(options, message):
    with pytest.raises(ConfigError, match=message):
        create_method("aligned", None, layout=LAYOUT, **options)


def test_features_must_hold_the_cues():
    method = create_method("aligned", None, layout=LAYOUT, cues=(9, 1), colour_weight=0.1)
    support, query = draw(1, 7, N_GLOBAL + 8).float(), draw(1, 5, N_GLOBAL + 8).float()
    with pytest.raises(ConfigError, match=r"17 features hold no layout \(4, 1, 2\) and global ones with cues \(9, 1\)"):
        method(support, LABELS, query, 3)
