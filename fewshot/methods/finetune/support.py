"""A support set in canonical order, with a seed that depends on its images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.runtime import seeding

CHUNK_IMAGES = 64  # converted to float64 at once


@dataclass(frozen=True)
class Support:
    """One episode's support set: `images` (n, C, H, W), `labels` (n,) in 0..n_way-1, `groups` (n,) from 0 on.

    The order depends on the images alone, not on the order in which they were given nor on the numbers of the classes.
    `seed` is derived from the method's seed and the images, so that the same support set draws the same random numbers.
    """

    images: Tensor
    labels: Tensor
    groups: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.labels)

    def generator(self, *names: object) -> torch.Generator:
        """Create a generator for one purpose; it is the same in each call."""
        return seeding.generator(self.seed, *names)

    def select(self, kept: Tensor) -> "Support":
        """Select the images that are `kept` (n,) bool; the seed stays that of the whole set."""
        return Support(self.images[kept], self.labels[kept], self.groups[kept], self.seed)


def order_support(images: Tensor, labels: Tensor, n_way: int, groups: Sequence[object] | None, seed: int) -> Support:
    """Check images (n, C, H, W), labels (n,) and groups (n values), and sort them into canonical order.

    Images are sorted by class and, within a class, by their projection on a random direction (float64); classes are
    sorted by the mean of these projections.
    """
    n = len(images)
    if n == 0:
        raise DataError("finetune: the support set has no images")
    if labels.shape != (n,) or (groups is not None and len(groups) != n):
        raise DataError(
            f"finetune: {n} support images, labels {tuple(labels.shape)}"
            + ("" if groups is None else f", {len(groups)} groups: there is one of each for every image")
        )
    if labels.min() < 0 or labels.max() >= n_way:
        raise DataError(f"finetune: labels run from 0 to {n_way - 1}, got {int(labels.min())} to {int(labels.max())}")
    places = _project(images, seed)  # (n,)
    sums = places.new_zeros(n_way).index_add(0, labels, places)
    means = sums / labels.bincount(minlength=n_way)
    rank = means.nan_to_num(torch.inf).argsort(stable=True).argsort()  # (n_way,)
    order = places.argsort(stable=True)
    order = order[rank[labels[order]].argsort(stable=True)]
    images, labels = images[order], labels[order]
    digest = hashlib.blake2b(images.cpu().contiguous().view(torch.uint8).numpy(), digest_size=8)
    digest.update(bytes(str(rank[labels].tolist()), "ascii"))
    return Support(images, labels, _number_groups(groups, order), seeding.derive(seed, "finetune", digest.hexdigest()))


def hold_out(support: Support, fraction: float) -> Tensor:
    """Choose the images (n,) to hold out for early stopping: about `fraction` of each class, in whole groups.

    Groups are visited in random order. A group is held out if each of its classes stays within its fraction (or has no
    image held out yet) and keeps another image. So nothing is held out of a class with one image or group.
    """
    labels, groups = support.labels.cpu(), support.groups.cpu()
    total = labels.bincount()  # (n_way,)
    limit, held = (fraction * total + 1e-9).long(), torch.zeros_like(total)
    out = torch.zeros_like(labels, dtype=torch.bool)
    for group in torch.randperm(int(groups.max()) + 1, generator=support.generator("held out")).tolist():
        members = groups == group
        inside = labels[members].bincount(minlength=len(total))
        after = held + inside
        allowed = ((after <= limit) | (held == 0)) & (after < total)
        if allowed[inside > 0].all():
            held, out = after, out | members
    return out.to(support.labels.device)


def _project(images: Tensor, seed: int) -> Tensor:
    """Project each image on one random direction, (n,) float64."""
    size = images[0].numel()
    direction = torch.randn(size, generator=seeding.generator(seed, "finetune order"), dtype=torch.float64)
    direction = direction.to(images.device)
    return torch.cat([chunk.flatten(1).double() @ direction for chunk in images.split(CHUNK_IMAGES)])


def _number_groups(groups: Sequence[object] | None, order: Tensor) -> Tensor:
    """Number the groups (n,) of the images in `order`; without groups each image is its own group."""
    if groups is None:
        return torch.arange(len(order), device=order.device)
    names = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    numbers: dict[object, int] = {}
    dense = [numbers.setdefault(names[i], len(numbers)) for i in order.tolist()]
    return torch.tensor(dense, device=order.device)
