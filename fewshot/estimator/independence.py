"""Finds images of a support set that are not independent of each other: copies, and images of one group."""

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
        return number_sets(len(rows), pair_equal(hashlib.blake2b(row.tobytes()).digest() for row in rows))
    n, _, side, _ = thumbnails.shape
    grey = np.tensordot(thumbnails.numpy(), GREY, (1, 0))  # (n, side, side)
    small = grey.reshape(n, SMALL_PX, side // SMALL_PX, SMALL_PX, side // SMALL_PX).mean((2, 4))
    near = ((i, j) for i, j, _ in find_near_pairs(hash_perceptually(small), extract_details(small)))
    return number_sets(n, [*pair_equal(map(bytes, digests)), *near])
