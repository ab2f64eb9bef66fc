"""Rows that belong together: sets that pairs of rows join."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np


def join_pairs(n: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Sets of rows that chains of pairs connect, two rows of 0..n-1 or more in each."""
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
    """Pairs of rows whose keys are equal, each row with the first of its kind."""
    first: dict[object, int] = {}
    for number, key in enumerate(keys):
        before = first.setdefault(key, number)
        if before != number:
            yield before, number


def join_groups(groups: np.ndarray | None, copies: np.ndarray) -> np.ndarray | None:
    """Groups of images (n,) that share neither a group nor a copy with each other; None where each image is its own."""
    if len(np.unique(copies)) == len(copies):
        return groups
    if groups is None:
        return copies
    return number_sets(len(copies), [*pair_equal(groups.tolist()), *pair_equal(copies.tolist())])


def number_sets(n: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """The number of each row's set, (n,), in order of first appearance."""
    first = np.arange(n)
    for rows in join_pairs(n, pairs):
        first[rows] = rows[0]
    return np.unique(first, return_inverse=True)[1]
