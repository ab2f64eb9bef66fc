"""Estimates accuracy within a folder from features: by leaving one group out, and by the number of images a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fewshot.errors import DataError
from fewshot.photographs.inspection.intervals import Proportion, estimate_proportion
from fewshot.sampling.episodes import PADDING

Predict = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]  # `Method.predict_among`
MAX_TRIES = 100
CHUNK_BYTES = 1 << 28  # bounds the support features of one call of the head
MOST_PAIRS = 100_000_000  # of images, in the Gram matrices of all heads that are fitted for one estimate


@dataclass(frozen=True, eq=False)
class FolderEstimate:
    """Accuracy on images of groups that the head was not fitted to.

    `by_class`: for each label; None if all its images are of one group, so that the class cannot be tested and does
    not count in `overall`. `logits` (n, n_way): of each image, from the fold that left it out; −inf for classes
    without an image in that fold.
    """

    overall: Proportion
    by_class: tuple[Proportion | None, ...]
    logits: Tensor
    n_parts: int | None = None
    """in so many parts groups were left out; None: one at a time"""

    @property
    def predictions(self) -> Tensor:
        """The predicted label of each image, (n,)."""
        return self.logits.argmax(1)


@dataclass(frozen=True, eq=False)
class ShotsCurve:
    """Accuracy with `shots` images a class: the mean over draws of support sets, the same draws for every number.

    `asked`, `right` (n_shots, n_images): how often each image was a query, and how often its prediction was right.
    `limited_by`: labels that have too few images for more shots.
    """

    shots: tuple[int, ...]
    points: tuple[Proportion, ...]
    right: np.ndarray
    asked: np.ndarray
    groups: np.ndarray
    limited_by: tuple[int, ...]


@torch.no_grad()
def predict_left_out(
    predict: Predict,
    features: Tensor,
    labels: Sequence[int],
    groups: Sequence[object] | None = None,
    n_way: int = 0,
    seed: int = 0,
) -> FolderEstimate:
    """Predict each group's images by a head fitted to images of other groups, chosen by `fold_supports`.

    `predict`: of a method. `features` (n, D), `labels` (n,) from 0, `groups` (n,); without groups, each image is its
    own group. Of more than 464 images groups are left out several at a time, see `limit_fits`. `n_way`: number of
    classes, if some have no image. Folds that leave out equally many images go through the head as one batch, in which
    images outside a fold's support set have the padding label −1. Raises `DataError` if no class has images of two
    groups.
    """
    label, group = _check(features, labels, groups)
    n_way = max(n_way, int(label.max()) + 1)
    fold = _deal_groups(label, group, seed)
    members = [np.flatnonzero(fold == f) for f in range(int(fold.max()) + 1)]
    sizes = np.array([len(rows) for rows in members])
    logits = features.new_empty((len(label), n_way))
    chunk = max(1, CHUNK_BYTES // (features.numel() * features.element_size()))
    seen = torch.from_numpy(np.where(fold_supports(label, fold, seed), label, PADDING)).to(features.device)
    bar = tqdm(total=len(members), desc="estimating accuracy", delay=1, leave=False)
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        for start in range(0, len(same), chunk):
            those = same[start : start + chunk]
            left_out = torch.from_numpy(np.stack([members[g] for g in those])).to(features.device)  # (B, size)
            support_labels = seen[torch.from_numpy(those).to(features.device)]  # (B, n)
            support = torch.arange(len(label), device=features.device).expand(len(left_out), -1)
            logits[left_out] = predict(features, support, support_labels, left_out, n_way).to(logits.dtype)
            bar.update(len(those))
    bar.close()
    tested = _find_tested(label, group, n_way)
    asked = tested[label]
    right = (logits.argmax(1).cpu().numpy() == label) & asked
    by = None if groups is None else group
    of_class = [estimate_proportion(right, asked & (label == c), by) if tested[c] else None for c in range(n_way)]
    n_parts = None if fold is group else len(members)
    return FolderEstimate(estimate_proportion(right, asked, by), tuple(of_class), logits, n_parts)


def limit_fits(n_images: int, wanted: int) -> int:
    """How many heads are fitted to a folder's images: as many as `wanted`, fewer where images are many, 10 at least."""
    return min(wanted, max(10, MOST_PAIRS // n_images**2))


def _deal_groups(label: np.ndarray, group: np.ndarray, seed: int) -> np.ndarray:
    """Deal groups to folds (n,): the groups of a class one after the other, in random order."""
    n_groups = int(group.max()) + 1
    if (n_folds := limit_fits(len(label), n_groups)) == n_groups:
        return group
    first, fold = label[np.unique(group, return_index=True)[1]], np.empty(n_groups, np.int64)
    fold[np.lexsort((np.random.default_rng(seed).permutation(n_groups), first))] = np.arange(n_groups) % n_folds
    return fold[group]


def fold_supports(label: np.ndarray, group: np.ndarray, seed: int = 0) -> np.ndarray:
    """Choose the support images of each fold, (n_groups, n) bool: fold g leaves out group g, and more.

    Every class without an image in group g loses one of its groups too, drawn at random (if it has several).
    Otherwise the class of the left-out images would always have the fewest support images, and a fitted head
    would learn that it is rare: eight euro coins with four photographs each gave 28% instead of 53%.
    """
    n_groups, n_way = int(group.max()) + 1, int(label.max()) + 1
    groups_of = [np.unique(group[label == c]) for c in range(n_way)]
    supports = np.ones((n_groups, len(label)), bool)
    has = np.zeros((n_groups, n_way), bool)
    has[group, label] = True
    several = np.flatnonzero(has.sum(0) > 1)
    for g in range(n_groups):
        draw, dropped = np.random.default_rng((seed, g)), np.full(n_way, g)
        for c in several[~has[g, several]]:
            dropped[c] = groups_of[c][draw.integers(len(groups_of[c]))]
        supports[g] = (group != g) & (group != dropped[label])
    return supports


@torch.no_grad()
def measure_shots_curve(
    predict: Predict,
    features: Tensor,
    labels: Sequence[int],
    groups: Sequence[object] | None = None,
    shots: Sequence[int] | None = None,
    n_draws: int = 100,
    seed: int = 0,
) -> ShotsCurve:
    """Measure accuracy with k images a class over `n_draws` random splits into support and query groups.

    Draw i depends on `(seed, i)` only. Groups in random order become query groups until each class of two or more
    groups has a query; of the other groups, k images of each class are the support. The support of a smaller k is
    part of that of a larger one, and the queries are the same for all k. All classes have the same number of queries,
    in all draws. `shots`: the values of k; None for 1, 2, 4, … and the largest number that every draw allows. Large
    folders get fewer draws, see `limit_fits`.
    """
    label, group = _check(features, labels, groups)
    n_draws = limit_fits(len(label), n_draws)
    n_way = int(label.max()) + 1
    tested = np.flatnonzero(_find_tested(label, group, n_way))
    draws = [_draw_split(label, group, tested, n_way, np.random.default_rng((seed, i))) for i in range(n_draws)]
    rest = np.array([[len(rows) for rows in support] for support, _ in draws])  # (n_draws, n_way)
    most = int(rest.min())
    chosen = _choose_shots(shots, most)
    n_query = min(len(rows) for _, query in draws for rows in query)
    query = torch.tensor(np.stack([np.concatenate([rows[:n_query] for rows in q]) for _, q in draws]))
    truth = label[query.numpy()]  # (n_draws, n_tested * n_query)
    right, asked = (np.zeros((len(chosen), len(label))) for _ in range(2))
    for row, k in enumerate(tqdm(chosen, desc="measuring fewer photographs", delay=1, leave=False)):
        support = torch.tensor(np.stack([np.concatenate([rows[:k] for rows in s]) for s, _ in draws]))
        hit = _predict(predict, features, label, support, query, n_way) == truth
        np.add.at(right[row], query.numpy(), hit)
        np.add.at(asked[row], query.numpy(), 1)
    by = None if groups is None else group
    points = tuple(estimate_proportion(r, a, by) for r, a in zip(right, asked, strict=True))
    fewest = rest.min(0)
    return ShotsCurve(chosen, points, right, asked, group, tuple(np.flatnonzero(fewest == most).tolist()))


def _predict(
    predict: Predict, features: Tensor, label: np.ndarray, support: Tensor, query: Tensor, n_way: int
) -> np.ndarray:
    """Predict the labels (n_draws, n_query) of rows `query` by heads fitted to rows `support` (n_draws, n_support)."""
    chunk = max(1, CHUNK_BYTES // (support.shape[1] * features.shape[1] * features.element_size()))
    support_labels = torch.from_numpy(label)[support]
    found = []
    for s, y, q in zip(support.split(chunk), support_labels.split(chunk), query.split(chunk), strict=True):
        at = features.device
        found.append(predict(features, s.to(at), y.to(at), q.to(at), n_way).argmax(2).cpu())
    return torch.cat(found).numpy()


def _draw_split(
    label: np.ndarray, group: np.ndarray, tested: np.ndarray, n_way: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw rows for the support of each class and the queries of each tested class; no group gives both."""
    table = np.zeros((int(group.max()) + 1, n_way), np.int64)  # images of each class in each group
    np.add.at(table, (group, label), 1)
    is_query = _choose_query_groups(table, tested, rng)
    order = rng.permutation(len(label))
    rows = [order[label[order] == c] for c in range(n_way)]
    return [r[~is_query[group[r]]] for r in rows], [rows[c][is_query[group[rows[c]]]] for c in tested]


def _choose_query_groups(table: np.ndarray, tested: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose query groups, (n_groups,) bool: each tested class gets a query, and every class keeps a support image."""
    for _ in range(MAX_TRIES):  # greedy in random order, which can fail: then try another order
        left, asked = table.sum(0), np.zeros(table.shape[1], np.int64)
        is_query = np.zeros(len(table), bool)
        for g in rng.permutation(len(table)):
            wanted = ((asked == 0) & (table[g] > 0))[tested].any()
            if wanted and (left - table[g] > 0).all():
                is_query[g] = True
                left, asked = left - table[g], asked + table[g]
        if (asked[tested] > 0).all():
            return is_query
    raise DataError(
        f"no choice of query groups gives class {tested[asked[tested] == 0][0]} a query and leaves every class a "
        "support image: add photographs of other groups"
    )


def _choose_shots(shots: Sequence[int] | None, most: int) -> tuple[int, ...]:
    if shots is None:
        return tuple(sorted({2**p for p in range(most.bit_length())} | {most}))
    chosen = tuple(sorted(set(shots)))
    if not chosen or chosen[0] < 1 or chosen[-1] > most:
        raise DataError(f"shots {list(shots)} must lie between 1 and {most}, the most that this folder allows")
    return chosen


def _find_tested(label: np.ndarray, group: np.ndarray, n_way: int) -> np.ndarray:
    """Find the classes that can be tested, (n_way,) bool: those with images of two groups or more."""
    pairs = np.unique(np.stack([label, group]), axis=1)
    tested = np.bincount(pairs[0], minlength=n_way) > 1
    if not tested.any():
        raise DataError("no class has images of two groups: nothing can be tested; add photographs of other groups")
    return tested


def _check(features: Tensor, labels: Sequence[int], groups: Sequence[object] | None) -> tuple[np.ndarray, np.ndarray]:
    """Convert labels and groups to int64 (n,), groups numbered from 0; without groups, each image is its own."""
    label = np.asarray(labels, dtype=np.int64)
    group = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if features.ndim != 2 or not len(features) == len(label) == len(group):
        got = f"features {tuple(features.shape)}, {len(label)} labels, {len(group)} groups"
        raise DataError(f"need features (n, D) with n labels and n groups, got {got}")
    if label.min() < 0 or len(np.unique(label)) < 2:
        raise DataError(f"labels must be 0 or more and of two classes or more, got {sorted(set(label.tolist()))[:5]}")
    return label, group
