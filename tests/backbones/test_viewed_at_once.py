"""Views in batches, as graphs are traced, give the features that one view after the other gives."""

import pytest
import torch

from fewshot import create_backbone
from fewshot.backbones import viewed


@pytest.mark.parametrize(
    "views",
    [
        {"turns": 3, "zooms": [1.0, 0.8]},
        {"turns": 4, "find_circle": True, "colour": 0.3, "radius": 1.0},
        {"turns": 16, "find_circle": True, "rings": "blocks.1"},
    ],
)
@pytest.mark.parametrize("n_at_once", [1, 3, 100])
def test_batches_of_views_change_nothing(views, n_at_once, monkeypatch):
    monkeypatch.setattr(viewed, "PIXELS_AT_ONCE", n_at_once * 32**2)
    backbone = create_backbone("conv4", 3, 32, views=views, n_filters=8).eval()
    images = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator())
    with torch.no_grad():
        torch.testing.assert_close(backbone.forward_at_once(images), backbone(images), atol=1e-5, rtol=1e-4)
