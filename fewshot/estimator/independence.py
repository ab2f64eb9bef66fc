"""Which images of a support set tell apart what they show: copies, and images of one group, are not independent."""

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fewshot.images.joining import join_groups, join_pairs, number_sets, pair_equal
from fewshot.images.similarity import SMALL_PX, extract_details, find_near_pairs, hash_perceptually

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: as Pillow converts


def find_dependence(
    content: Tensor, digests: np.ndarray | None, thumbnails: Tensor | None, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The set of copies that each image belongs to, see `find_copies`, and its group, see `join_groups`."""
    copies = find_copies(content, digests, thumbnails)
    return copies, join_groups(groups, copies)


def name_copies(names: Sequence[str], copies: np.ndarray) -> list[list[str]]:
    """The names of each set of two copies or more."""
    sets = join_pairs(len(copies), pair_equal(copies.tolist()))
    return [[names[row] for row in rows] for rows in sets]


def find_copies(content: Tensor, digests: np.ndarray | None, thumbnails: Tensor | None) -> np.ndarray:
    """Which set of copies each image belongs to, (n,) from 0; an image without a copy is a set of its own.

    Copies of images have the same pixels (`digests`, (n, 8)) or nearly the same, as where one was saved again or
    resized (`thumbnails`, (n, 3, side, side) uint8; see `fewshot.images.similarity`). Copies of features (n, d), where
    no images were given, are equal.
    """
    if thumbnails is None or digests is None:
        rows = content.flatten(1).numpy()
        return number_sets(len(rows), pair_equal(hashlib.blake2b(row.tobytes()).digest() for row in rows))
    n, _, side, _ = thumbnails.shape
    grey = np.tensordot(thumbnails.numpy(), GREY, (1, 0))  # (n, side, side)
    small = grey.reshape(n, SMALL_PX, side // SMALL_PX, SMALL_PX, side // SMALL_PX).mean((2, 4))
    near = ((i, j) for i, j, _ in find_near_pairs(hash_perceptually(small), extract_details(small)))
    return number_sets(n, [*pair_equal(map(bytes, digests)), *near])
