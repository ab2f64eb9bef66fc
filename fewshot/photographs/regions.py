"""Where in a photograph the classifier saw what speaks for its answer."""

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewshot.backbones import Backbone
from fewshot.errors import FewShotError
from fewshot.methods import Method

SAME = 1e-2  # features and the mean of the maps differ by no more of their length, bfloat16 included
DARKEST = 0.65  # opacity of what does not speak for the answer
SIDE_PX = 28


def compute_regions(
    method: Method, support: Tensor, support_labels: Tensor, pixels: Tensor, answers: Tensor, n_way: int
) -> Tensor | None:
    """Compute how much each cell of the feature maps raises the log-probability of the answer, (n, h, w).

    For features that are the spatial mean of maps: the gradient with respect to the feature times the cell, which for a
    linear head is the class activation map of Zhou, Khosla, Lapedriza, Oliva, Torralba, CVPR 2016,
    https://arxiv.org/abs/1512.04150, and for others that of Selvaraju et al., Grad-CAM, ICCV 2017,
    https://arxiv.org/abs/1610.02391, with its sign. Cells below zero speak against the answer.

    Args:
        method: with a backbone, in evaluation mode.
        support: features (n_support, D).
        support_labels: (n_support,).
        pixels: (n, C, side, side) uint8.
        answers: the class of each, (n,).
        n_way: number of classes.

    Returns:
        The regions, or None where features are no mean of maps: of turned views, of `aligned`, of networks without.
    """
    backbone = method.backbone
    if not isinstance(backbone, Backbone) or not method.uses_features:
        return None
    try:
        with torch.no_grad():
            maps, features = backbone.feature_maps(pixels).float(), backbone(pixels).float()
    except FewShotError:
        return None
    mean = maps.mean((2, 3))
    if mean.shape != features.shape or (mean - features).norm() > SAME * features.norm():
        return None
    leaf = mean.requires_grad_()
    with torch.enable_grad():
        logits = method.head(support[None], support_labels[None], leaf[None], n_way)[0]  # type: ignore[operator]
        logits.log_softmax(1).gather(1, answers[:, None]).sum().backward()
    assert leaf.grad is not None
    return torch.einsum("nc,nchw->nhw", leaf.grad, maps) / (maps.shape[2] * maps.shape[3])


def draw_region_map(regions: Tensor) -> str:
    """Draw regions (h, w) as a `data:` URL of a square image that darkens what does not speak for the answer."""
    for_it = regions.clamp_min(0) / regions.max().clamp_min(1e-12)
    alpha = (255 * DARKEST * (1 - for_it.sqrt())).round().to(torch.uint8).cpu().numpy()
    smooth = Image.fromarray(alpha).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    black = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([black, black, black, np.asarray(smooth)]), "RGBA").save(buffer, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
