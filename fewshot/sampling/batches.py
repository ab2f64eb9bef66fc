"""Plain batches: labelled images dealt epoch after epoch, as a pure function of (seed, position)."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewshot.runtime.seeding import numpy_generator
from fewshot.runtime.transfer import send
from fewshot.sampling.episodes import LabelledData


@dataclass(frozen=True)
class BatchRows:
    """`rows` (n,): row numbers of the data as dealt; `labels` (n,): their classes."""

    rows: Tensor
    labels: Tensor

    def fill(self, data: LabelledData) -> "Batch":
        """The same batch with the images of `data` in the place of row numbers."""
        return Batch(data.gather(self.rows), self.labels)


@dataclass(frozen=True)
class Batch:
    """`images` (n, C, H, W) uint8; `labels` (n,): their classes."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved = {name: send(tensor, device) for name, tensor in vars(self).items()}
        return replace(self, **moved)


class BatchSampler:
    """Deals the images of `data`: each epoch is a permutation of all rows, nothing is dropped.

    Position p of the endless deal is row p % n of epoch p // n, and an epoch's permutation depends on
    `(seed, epoch)` alone: not on what was dealt before, or on the number of devices or processes.
    """

    def __init__(self, data: LabelledData, seed: int = 0) -> None:
        self.seed = seed
        self._labels = torch.from_numpy(data.labels)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)  # of the epoch dealt from last

    def batch(self, first: int, count: int) -> BatchRows:
        """Positions first .. first + count - 1."""
        parts, n_images = [], len(self._labels)
        while count > 0:
            epoch, start = divmod(first, n_images)
            part = self._permute(epoch)[start : start + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        rows = torch.cat(parts)
        return BatchRows(rows, self._labels[rows])

    def _permute(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            order = numpy_generator(self.seed, "epoch", epoch).permutation(len(self._labels))
            self._epoch, self._order = epoch, torch.from_numpy(order)
        return self._order
