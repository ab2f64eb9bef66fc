"""Circles in drawn images of coins, and features of rotated views."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewshot import ImageSet, create_backbone
from fewshot.backbones.cues import RADIUS_UNIT
from fewshot.errors import ConfigError, FewShotError, UnknownNameError
from fewshot.images.circle_crops import crop_circles
from fewshot.images.circles import Circles, cut_circles, find_circles, fit_circles, make_resizing
from fewshot.runtime import seeding

SIDE = 100


def drawn(x: float, y: float, radius: float, inner: float = 0.0, side: int = SIDE) -> torch.Tensor:
    """Draw a brown disc on grey noise, with a silver disc of `inner` times its radius in it: (3, side, side) uint8."""
    along = (np.arange(side) + 0.5) * 2 / side - 1
    far = np.hypot(along[None] - x, along[:, None] - y)[None]
    noise = seeding.numpy_generator(0, "background").normal(0, 12, (3, side, side))
    coin = np.array([150.0, 90.0, 40.0])[:, None, None]
    pixels = np.where(far <= radius, coin, 170 + noise)
    pixels = np.where(far <= radius * inner, 180.0, pixels)
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("x", "y", "radius"), [(0, 0, 0.6), (0.1, -0.05, 0.8), (-0.12, 0.08, 0.55), (0.0, 0.04, 0.93)])
@pytest.mark.parametrize("inner", [0.0, 0.7])
def test_a_drawn_coin_is_found(x, y, radius, inner):
    """Half a pixel is 0.01 (the grid steps are 0.05 and 0.017); an equally strong inner disc is not chosen."""
    found = find_circles(drawn(x, y, radius, inner)[None])
    assert abs(found.x.item() - x) <= 0.01
    assert abs(found.y.item() - y) <= 0.01
    assert abs(found.radius.item() - radius) <= 0.01


def test_what_lies_on_the_rim_does_not_move_the_fitted_circle():
    picture = drawn(0.05, 0, 0.6)
    picture[:, 70:, 20:50] = 20  # something dark over a sixth of the outline
    picture[:, 15:45, 85:] = 230  # something bright close by
    start = Circles(*(torch.tensor([value]) for value in (0.0, 0.05, 0.66)))
    found = fit_circles(picture[None], start)
    assert [part.item() for part in found] == pytest.approx([0.05, 0.0, 0.6], abs=0.01)


def test_a_picture_without_a_circle_still_has_an_answer():
    found = find_circles(torch.zeros(2, 1, 50, 50, dtype=torch.uint8))
    assert all(torch.isfinite(part).all() for part in found)


@pytest.mark.parametrize(("old_px", "new_px"), [(160, 96), (160, 150), (40, 96)])
def test_pixels_are_resized_and_smoothed_as_torch_does(old_px, new_px):
    pixels = torch.rand(2, 3, old_px, old_px, dtype=torch.float64, generator=seeding.generator(0, "pixels"))
    along = torch.from_numpy(make_resizing(old_px, new_px))
    expected = F.interpolate(pixels, (new_px, new_px), mode="bilinear", antialias=True)
    expected = F.avg_pool2d(expected, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(along @ pixels @ along.mT, expected, atol=1e-12, rtol=0)


def test_the_cut_fills_the_square_and_a_quarter_turn_turns_it():
    picture = drawn(0.1, 0.0, 0.5, side=200)[None]
    circles = find_circles(picture)
    cut = cut_circles(picture, circles, 64)
    middle_row = cut[0, 2, 32]
    assert (middle_row[2:-2] < 60).all()  # the coin's blue is 40, the background's 170
    turned = cut_circles(picture, circles, 64, math.pi / 2)
    torch.testing.assert_close(turned, torch.rot90(cut, 1, (2, 3)), atol=2.0, rtol=0)


def test_image_sets_are_cut_out_once(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    images = torch.stack([drawn(0.1, 0.0, 0.5), drawn(-0.1, 0.05, 0.7), drawn(0, 0, 0.6)])
    whole = ImageSet(images, [0, 1, 1], ["a", "b"], groups=[0, 1, 1], name="drawn", split="test")
    cut = crop_circles(whole)
    assert (cut.images[:, :, 0, 0] == 128).all()  # grey in the corners
    along = torch.linspace(8, SIDE - 9, 9).long()
    assert (cut.images[:, 2, SIDE // 2, along] < 60).all()  # the coin's blue, 40, from border to border
    assert (cut.labels.tolist(), cut.groups.tolist(), cut.split) == ([0, 1, 1], [0, 1, 1], "test")
    monkeypatch.setattr("fewshot.images.circles.find_circles", None)  # the second time it is there
    assert crop_circles(whole).fingerprint == cut.fingerprint != whole.fingerprint


def features(**views) -> torch.nn.Module:
    with seeding.fork(0, "viewed"):
        return create_backbone("conv4", 3, 32, n_filters=8, views=views).eval()


@torch.no_grad()
def test_features_hardly_depend_on_how_the_coin_lies():
    """A picture and its rotation by 90 degrees have the same four views, so equal features up to resampling."""
    picture = drawn(0, 0, 0.97, side=32)[None]
    picture[..., 10:14, 20:24] = 255
    turned = torch.rot90(picture, 1, (2, 3))
    four, one = features(turns=4), features()
    torch.testing.assert_close(four(picture), four(turned), atol=1e-3, rtol=0)
    assert (one(picture) - one(turned)).abs().max() > 0.01


@torch.no_grad()
def test_radius_and_colour_stand_beside_the_features():
    backbone = features(find_circle=True, colour=0.5, radius=2.0)
    small, large = drawn(0, 0, 0.5)[None], drawn(0, 0, 0.75)[None]
    out = backbone(torch.cat([small, large]))
    assert out.shape[1] == backbone.feature_dim == backbone.source.feature_dim + 84 + 1
    step = out[1, -1] - out[0, -1]
    assert step.item() == pytest.approx(2.0 * math.log(1.5) / RADIUS_UNIT, rel=0.06)
    torch.testing.assert_close(out[:, : backbone.source.feature_dim].norm(dim=1), torch.ones(2))


@torch.no_grad()
def test_a_coloured_light_leaves_the_colour_against_the_background():
    """Light multiplies channels; the last 24 colour cues are relative to the background."""
    backbone = features(find_circle=True, colour=1.0)
    picture = drawn(0, 0, 0.7)
    light = torch.tensor([1.0, 0.8, 0.6])[:, None, None]
    lit = (picture * light).round().to(torch.uint8)
    cues = backbone(torch.stack([picture, lit]))[:, backbone.source.feature_dim :]
    hue, against = (cues[0] - cues[1]).split([60, 24])
    assert against.abs().max() < 0.05
    assert hue.abs().max() > 0.1


def test_impossible_views_are_named():
    with pytest.raises(ConfigError, match="find_circle"):
        features(radius=1.0)
    with pytest.raises(ConfigError, match="turns"):
        features(turns=0)
    with pytest.raises(UnknownNameError, match="turns"):
        features(turn=2)
    with pytest.raises(FewShotError, match="square"):
        features(turns=2)(torch.zeros(1, 3, 20, 30, dtype=torch.uint8))
