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


class _Rays(nn.Module):
    """Colours along the rays on which the outline is chosen, in float64."""

    def forward(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        sample = circles.sample_on_rings

        def watch(*args: Tensor) -> Tensor:
            seen.append(sample(*args))
            return seen[-1]

        circles.sample_on_rings = watch
        try:
            find_circles(images, at_once=True)
        finally:
            circles.sample_on_rings = sample
        return seen[0]


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


def test_the_graph_samples_in_float64_throughout(tmp_path: Path):
    pictures = np.stack([draw_oval(3)])
    write_encoder(_Rays(), 3, SIDE, tmp_path / "circles.onnx")
    exported = open_encoder(tmp_path / "circles.onnx", 1).run(None, {"images": pictures})[0]
    expected = _Rays()(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(exported, expected, rtol=0, atol=1e-11)
