"""Plain batches: labelled images dealt epoch after epoch, as a pure function of (seed, position)."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.runtime.seeding import numpy_generator
from fewshot.runtime.transfer import send


@dataclass(frozen=True)
class Batch:
    """`images` (n,): row numbers as dealt, then uint8 (n, C, H, W); `labels` (n,): classes of the image set."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved = {name: send(tensor, device) for name, tensor in vars(self).items()}
        return replace(self, **moved)


class BatchSampler:
    """Deals the images of `imageset`: each epoch is a permutation of all rows, nothing is dropped.

    Position p of the endless deal is row p % n of epoch p // n, and an epoch's permutation depends on
    `(seed, epoch)` alone: not on what was dealt before, or on the number of devices or processes.
    """

    def __init__(self, imageset: ImageSet, seed: int = 0) -> None:
        self.imageset, self.seed = imageset, seed
        self._labels = torch.from_numpy(imageset.labels)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)  # of the epoch dealt from last

    def batch(self, first: int, count: int) -> Batch:
        """Positions first .. first + count - 1, as row numbers of the image set."""
        parts, n_images = [], len(self.imageset)
        while count > 0:
            epoch, start = divmod(first, n_images)
            part = self._permutation(epoch)[start : start + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        rows = torch.cat(parts)
        return Batch(rows, self._labels[rows])

    def images(self, batch: Batch, device: torch.device | str | None = None) -> Batch:
        """The same batch with uint8 images (n, C, H, W) instead of row numbers, on `device`."""
        with_images = replace(batch, images=self.imageset.gather(batch.images))
        return with_images if device is None else with_images.to(device)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            order = numpy_generator(self.seed, "epoch", epoch).permutation(len(self.imageset))
            self._epoch, self._order = epoch, torch.from_numpy(order)
        return self._order
