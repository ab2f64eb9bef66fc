"""The encoded support set that a classifier keeps, with the origin of each image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.estimator.independence import find_dependence
from fewshot.estimator.reading import ImageBatch
from fewshot.images.joining import pair_equal
from fewshot.images.listing import list_few


@dataclass(frozen=True)
class Support:
    """The encoded support images.

    `content` (n, …): features, or uint8 pixels if the method adapts weights. `labels` (n,) in 0..n_classes-1.
    `groups` (n,): the user's groups as strings, or None. `names` (n,): paths, or "image 7". `digests` (n, 8): hashes
    of the pixels, and `thumbnails` (n, 3, side, side) uint8; both None if features were given. `copies` (n,): number
    of the set of copies that each image belongs to, see `find_copies`. `independent` (n,): the groups after merging
    those that contain copies of each other, see `join_groups`; None if all images are independent.
    """

    content: Tensor
    labels: np.ndarray
    groups: np.ndarray | None
    names: tuple[str, ...]
    digests: np.ndarray | None = None
    thumbnails: Tensor | None = None
    copies: np.ndarray | None = None
    independent: np.ndarray | None = None

    @classmethod
    def gather(cls, batches: Iterable[ImageBatch], labels: np.ndarray, groups: np.ndarray | None) -> Self:
        """Collect encoded batches with their labels (n,); raises `DataError` if one picture has two labels."""
        names, contents, digests, thumbnails = zip(*batches, strict=True)
        are_images = digests[0] is not None
        return cls(
            torch.cat(contents),
            labels,
            groups,
            tuple(chain(*names)),
            np.concatenate(digests) if are_images else None,
            torch.cat(thumbnails) if are_images else None,
        ).check()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, which: np.ndarray) -> Self:
        """Keep only the rows `which`, given as numbers or as a mask."""
        numbers = np.arange(len(self))[which]
        return replace(
            self,
            content=self.content[torch.from_numpy(numbers)],
            labels=self.labels[numbers],
            groups=None if self.groups is None else self.groups[numbers],
            names=tuple(self.names[number] for number in numbers),
            digests=None if self.digests is None else self.digests[numbers],
            thumbnails=None if self.thumbnails is None else self.thumbnails[torch.from_numpy(numbers)],
            copies=None if self.copies is None else self.copies[numbers],
            independent=None if self.independent is None else self.independent[numbers],
        )

    def relabel(self, new: np.ndarray) -> Self:
        """Replace label c by `new[c]`."""
        return replace(self, labels=new[self.labels])

    def join(self, other: Self) -> Self:
        """Append the rows of `other`; groups and images are present in both or in neither."""
        return replace(
            self,
            content=torch.cat([self.content, other.content]),
            labels=np.concatenate([self.labels, other.labels]),
            groups=None if self.groups is None else np.concatenate([self.groups, other.groups]),
            names=self.names + other.names,
            digests=None if self.digests is None else np.concatenate([self.digests, other.digests]),
            thumbnails=None if self.thumbnails is None else torch.cat([self.thumbnails, other.thumbnails]),
        ).check()

    def check(self) -> Self:
        """Find the copies among the images; raises `DataError` if one picture has two labels."""
        if self.digests is not None:
            pairs = list(pair_equal(map(bytes, self.digests)))
            twice = [f"{self.names[i]} and {self.names[j]}" for i, j in pairs if self.labels[i] != self.labels[j]]
            if twice:
                raise DataError(f"the same picture in two classes: {list_few(twice)}; remove the wrong one")
        copies, independent = find_dependence(self.content, self.digests, self.thumbnails, self.groups)
        return replace(self, copies=copies, independent=independent)


def check_groups(groups: Sequence[Any] | None) -> np.ndarray | None:
    """Convert groups to strings; raises `DataError` if one is missing (None or NaN)."""
    if groups is None:
        return None
    missing = [i for i, group in enumerate(groups) if group is None or group != group]
    if missing:
        has = "image {} has" if len(missing) == 1 else "images {} have"
        raise DataError(f"{has.format(list_few(missing))} no group: give one for each image, or none at all")
    return np.array([str(group) for group in groups])


def check_groups_agree(groups: Sequence[Any] | None, of_fit: np.ndarray | None) -> None:
    """Raise `DataError` if a new class has groups and the classes of `fit` have none, or the other way round."""
    if (groups is None) != (of_fit is None):
        called = "without" if of_fit is None else "with"
        raise DataError(f"give groups for all classes or for none: fit was called {called} groups")
