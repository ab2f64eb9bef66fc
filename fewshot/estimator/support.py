"""The support set that a classifier keeps: what it classifies by, and where each image came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.estimator.independence import find_dependence
from fewshot.estimator.reading import Read
from fewshot.images.joining import pair_equal
from fewshot.images.listing import list_few


@dataclass(frozen=True)
class Support:
    """`content` (n, …): features, or uint8 images for methods that adapt weights. `labels` (n,) in 0..n_classes-1.

    `groups` (n,) strings or None. `names` (n,): paths, or "image 7". `digests` (n, 8): hashes of the
    pixels, and `thumbnails` (n, 3, side, side) uint8 of the images; None where features were given.
    `copies` (n,): which set of copies each image belongs to, see `find_copies`. `independent` (n,): groups joined where
    copies lie in several, so that images of two of them are independent; None where each image is.
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
    def gather(cls, parts: Iterable[Read], labels: np.ndarray, groups: np.ndarray | None) -> Self:
        """Of encoded images with their labels (n,); raises `DataError` where one picture has two labels."""
        names, contents, digests, thumbnails = zip(*parts, strict=True)
        seen = digests[0] is not None
        return cls(
            torch.cat(contents),
            labels,
            groups,
            tuple(chain(*names)),
            np.concatenate(digests) if seen else None,
            torch.cat(thumbnails) if seen else None,
        ).check()

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, which: np.ndarray) -> Self:
        """Only the rows `which`, numbers or a mask."""
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
        """With label `new[c]` for label c."""
        return replace(self, labels=new[self.labels])

    def join(self, other: Self) -> Self:
        """This one's rows, then the other's; both with or both without groups and images."""
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
        """Itself, with its copies found; raises `DataError` where one picture has two labels."""
        if self.digests is not None:
            pairs = list(pair_equal(map(bytes, self.digests)))
            twice = [f"{self.names[i]} and {self.names[j]}" for i, j in pairs if self.labels[i] != self.labels[j]]
            if twice:
                raise DataError(f"the same picture in two classes: {list_few(twice)}; remove the wrong one")
        copies, independent = find_dependence(self.content, self.digests, self.thumbnails, self.groups)
        return replace(self, copies=copies, independent=independent)


def as_groups(groups: Sequence[Any] | None) -> np.ndarray | None:
    """Groups as strings; a missing one (None, NaN) is an error."""
    if groups is None:
        return None
    missing = [i for i, group in enumerate(groups) if group is None or group != group]
    if missing:
        raise DataError(f"images {list_few(missing)} have no group; name one for each image, or none at all")
    return np.array([str(group) for group in groups])
