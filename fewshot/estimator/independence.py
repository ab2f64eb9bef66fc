"""Finds images of a support set that are not independent of each other: copies, and images of one group."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from fewshot.images.similarity import (
    SMALL_PX,
    extract_details,
    find_near_pairs,
    hash_perceptually,
    join_pairs,
    pair_equal,
)

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: as Pillow converts


def find_dependence(
    content: Tensor, digests: np.ndarray | None, thumbnails: Tensor | None, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find the set of copies that each image belongs to (`find_copies`) and its group (`join_groups`)."""
    copies = find_copies(content, digests, thumbnails)
    return copies, join_groups(groups, copies)


def name_copies(names: Sequence[str], copies: np.ndarray) -> list[list[str]]:
    """List the names of the images in each set of two copies or more."""
    sets = join_pairs(len(copies), pair_equal(copies.tolist()))
    return [[names[row] for row in rows] for rows in sets]


def find_copies(content: Tensor, digests: np.ndarray | None, thumbnails: Tensor | None) -> np.ndarray:
    """Number the sets of copies: the set of each image, (n,) from 0; an image without a copy is a set of its own.

    Two images are copies if their pixels are equal (same row of `digests`, (n, 8)) or nearly equal, as after resizing
    or saving again (`thumbnails`, (n, 3, side, side) uint8; see `fewshot.images.similarity`). If features (n, d) were
    given instead of images, copies are equal rows.
    """
    if thumbnails is None or digests is None:
        rows = content.flatten(1).numpy()
        return _number_sets(len(rows), pair_equal(hashlib.blake2b(row.tobytes()).digest() for row in rows))
    n, _, side, _ = thumbnails.shape
    grey = np.tensordot(thumbnails.numpy(), GREY, (1, 0))  # (n, side, side)
    small = grey.reshape(n, SMALL_PX, side // SMALL_PX, SMALL_PX, side // SMALL_PX).mean((2, 4))
    near = ((i, j) for i, j, _ in find_near_pairs(hash_perceptually(small), extract_details(small)))
    return _number_sets(n, [*pair_equal(map(bytes, digests)), *near])


def join_groups(groups: np.ndarray | None, copies: np.ndarray) -> np.ndarray | None:
    """Merge groups that contain copies of each other, (n,); None if every image is a group of its own."""
    if len(np.unique(copies)) == len(copies):
        return groups
    if groups is None:
        return copies
    return _number_sets(len(copies), [*pair_equal(groups.tolist()), *pair_equal(copies.tolist())])


def _number_sets(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Number the sets that `pairs` connect, in order of first appearance: the set of each row, (n,)."""
    first = np.arange(n)
    for rows in join_pairs(n, pairs):
        first[rows] = rows[0]
    return np.unique(first, return_inverse=True)[1]
