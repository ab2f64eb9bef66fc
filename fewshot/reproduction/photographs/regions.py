"""Whether the regions that a map shows speak for the answer: it is asked again with them hidden."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.backbones import Backbone
from fewshot.errors import FewShotError
from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.methods import Method
from fewshot.reproduction.photographs.sets import EmbeddedSet, draw_folder

SAME = 1e-2  # features and the mean of the maps differ by no more of their length, bfloat16 included
N_WAY, N_SHOT, N_QUERY, SHARE = 8, 4, 3, 0.2


def measure_regions(data: EmbeddedSet, n_repetitions: int) -> dict[str, object]:
    """By how much the answer's probability falls with the strongest 20% of the cells hidden, and a random 20%.

    Of right answers on photographs of other groups than the support's. Hidden cells get the picture's mean colour.
    """
    strongest, at_random = [], []
    for repetition in range(n_repetitions):
        rng = np.random.default_rng((repetition, 27))
        rows, labels = draw_folder(data, N_WAY, N_SHOT, rng)
        others = np.flatnonzero(~np.isin(data.groups, data.groups[rows]))
        names = data.labels[rows][::N_SHOT]
        query = np.concatenate([rng.permutation(others[data.labels[others] == c])[:N_QUERY] for c in names])
        truth = torch.tensor([int(np.flatnonzero(names == c)[0]) for c in data.labels[query]])
        support, known = data.features[rows], torch.from_numpy(labels)

        def ask(features: Tensor, support: Tensor = support, known: Tensor = known) -> Tensor:
            with torch.no_grad():
                return data.method.head(support[None], known[None], features[None], N_WAY)[0].softmax(1)

        right = torch.nonzero(ask(data.features[query]).argmax(1) == truth).flatten()
        if not len(right):
            continue
        pixels, answers = data.pixels[query[right.numpy()]], truth[right]
        regions = compute_regions(data.method, support, known, pixels, answers, N_WAY)
        if regions is None:
            raise AssertionError("this backbone gives no maps")
        noise = torch.from_numpy(rng.random(regions.shape))
        with torch.no_grad():
            shown, *hidden = (
                ask(data.method.encode(p)).gather(1, answers[:, None])[:, 0]
                for p in (pixels, hide_cells(pixels, regions), hide_cells(pixels, noise))
            )
        strongest += (shown - hidden[0]).tolist()
        at_random += (shown - hidden[1]).tolist()
    return {"strongest": strongest, "random": at_random}


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
        logits = method.head(support[None], support_labels[None], leaf[None], n_way)[0]
        logits.log_softmax(1).gather(1, answers[:, None]).sum().backward()
    assert leaf.grad is not None
    return torch.einsum("nc,nchw->nhw", leaf.grad, maps) / (maps.shape[2] * maps.shape[3])


def hide_cells(pixels: Tensor, strength: Tensor, share: float = SHARE) -> Tensor:
    """Paint the `share` of cells with the greatest `strength` (n, h, w) in the mean colour of each of `pixels`."""
    n_hidden = round(share * strength[0].numel())
    lowest = strength.flatten(1).topk(n_hidden, 1).values[:, -1]
    mask = (strength >= lowest[:, None, None]).float()[:, None]
    mask = F.interpolate(mask, pixels.shape[2:], mode="nearest")
    colour = pixels.float().mean((2, 3), keepdim=True)
    return torch.where(mask > 0, colour, pixels.float()).round().to(torch.uint8)


def format_regions(records: list[dict]) -> str:
    """Make the table of `measure_regions`' records."""
    lines = [
        "| data set | right answers | strongest cells hidden | random ones hidden | more with the strongest |",
        "|---|---|---|---|---|",
    ]
    for r in records:
        strong, by_chance = np.array(r["strongest"]), np.array(r["random"])
        cells = [compute_mean_interval(100 * x) for x in (strong, by_chance, (strong > by_chance).astype(float))]
        said = [f"{e.mean:.1f} ± {e.half_width_95:.1f}" for e in cells]
        lines.append(f"| {r['dataset']} | {len(strong)} | {said[0]} | {said[1]} | {said[2]}% |")
    return "\n".join(lines)
