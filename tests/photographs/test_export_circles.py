"""An exported network finds the circle that torch finds, also where two outlines are nearly as strong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewshot.images import circles
from fewshot.images.circles import find_circles

pytest.importorskip("onnxscript", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
pytest.importorskip("onnxruntime", reason="what runs ONNX is not installed: pip install 'fewshot[export]'")

from fewshot.photographs.serving.encoder_graph import write_encoder
from fewshot.photographs.serving.pictures import open_encoder

SIDE = 48


class _Finder(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.stack(find_circles(images, at_once=True), 1)


class _Double(nn.Module):
    """Finds circles without rounding them to float32 at the end."""

    def forward(self, images: Tensor) -> Tensor:
        outlines = [circles._make_outlines(images, side, torch.float64) for side in (circles.SEARCH_PX, circles.FIT_PX)]
        return torch.stack(circles._fit(outlines[1], circles._search(outlines[0], at_once=True)), 1)


def draw_oval(number: int) -> np.ndarray:
    """A smooth oval, which no circle fits: many circles have outlines of nearly equal strength."""
    along = (np.arange(SIDE) + 0.5) * 2 / SIDE - 1
    far = np.hypot((along - 0.03) / 0.8, (along[:, None] - 0.01 * (number % 7) - 0.013) / (0.5 + 0.01 * (number // 7)))
    slope = 0.11 * along + 0.07 * along[:, None]
    inside = np.stack([np.clip((1 - far) * sharp + 0.5 + slope, 0, 1) for sharp in (2, 3, 4)])
    return np.round(200 - 100 * inside).astype(np.uint8)


def test_torch_and_the_exported_graph_find_the_same_circles(tmp_path: Path):
    pictures = np.stack([draw_oval(number) for number in range(20)])
    write_encoder(_Finder(), 3, SIDE, tmp_path / "circles.onnx")
    session = open_encoder(tmp_path / "circles.onnx", 1)
    exported = np.concatenate([session.run(None, {"images": picture[None]})[0] for picture in pictures])
    found = torch.stack(find_circles(torch.from_numpy(pictures)), 1).numpy()
    np.testing.assert_allclose(exported, found, atol=1e-6)


def test_the_graph_computes_circles_in_float64_throughout(tmp_path: Path):
    pictures = np.stack([draw_oval(3)])
    write_encoder(_Double(), 3, SIDE, tmp_path / "circles.onnx")
    exported = open_encoder(tmp_path / "circles.onnx", 1).run(None, {"images": pictures})[0]
    expected = _Double()(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(exported, expected, rtol=0, atol=1e-9)
