"""Rows that belong together: sets that pairs of rows join."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np


def join_pairs(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs of rows of 0..n-1 into connected sets; rows without a pair are left out."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, j in pairs:
        a, b = sorted((root(i), root(j)))
        parent[b] = a
    sets = defaultdict(list)
    for i in range(n):
        sets[root(i)].append(i)
    return [s for s in sets.values() if len(s) > 1]


def pair_equal(keys: Iterable[object]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows with equal keys: the first row with a key, and each later one."""
    first: dict[object, int] = {}
    for number, key in enumerate(keys):
        before = first.setdefault(key, number)
        if before != number:
            yield before, number


def join_groups(groups: np.ndarray | None, copies: np.ndarray) -> np.ndarray | None:
    """Merge groups that contain copies of each other, (n,); None if every image is a group of its own."""
    if len(np.unique(copies)) == len(copies):
        return groups
    if groups is None:
        return copies
    return number_sets(len(copies), [*pair_equal(groups.tolist()), *pair_equal(copies.tolist())])


def number_sets(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Number the sets that `pairs` connect, in order of first appearance: the set of each row, (n,)."""
    first = np.arange(n)
    for rows in join_pairs(n, pairs):
        first[rows] = rows[0]
    return np.unique(first, return_inverse=True)[1]
