"""Plain batches of labelled images, epoch after epoch, as a pure function of (seed, position)."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewshot.runtime.seeding import numpy_generator
from fewshot.runtime.transfer import send
from fewshot.sampling.episodes import LabelledData


@dataclass(frozen=True)
class BatchRows:
    """A batch as row numbers: `rows` (n,) of the data, and their classes `labels` (n,)."""

    rows: Tensor
    labels: Tensor

    def fill(self, data: LabelledData) -> "Batch":
        """Replace the row numbers by the images of `data`."""
        return Batch(data.gather(self.rows), self.labels)


@dataclass(frozen=True)
class Batch:
    """A batch: `images` (n, C, H, W) uint8, and their classes `labels` (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Self:
        """Copy the batch to `device`."""
        moved = {name: send(tensor, device) for name, tensor in vars(self).items()}
        return replace(self, **moved)


class BatchSampler:
    """Draws batches from `data`: each epoch is a permutation of all rows; a batch may span two epochs.

    Position p of the endless sequence is row p % n of epoch p // n. The permutation of an epoch depends on
    `(seed, epoch)` alone: not on earlier draws, nor on the number of devices or processes.
    """

    def __init__(self, data: LabelledData, seed: int = 0) -> None:
        self.seed = seed
        self._labels = torch.from_numpy(data.labels)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)  # the last epoch used

    def batch(self, first: int, count: int) -> BatchRows:
        """Draw positions first .. first + count - 1 of the sequence."""
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
