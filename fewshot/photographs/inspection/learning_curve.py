"""Accuracy within a folder, from features: leaving one group out, and against the number of images a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.photographs.inspection.intervals import Proportion, proportion
from fewshot.sampling.episodes import PADDING

Head = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # `Method.head`
MAX_TRIES = 100
CHUNK_BYTES = 1 << 28  # of support features that one call of the head sees


@dataclass(frozen=True, eq=False)
class FolderEstimate:
    """Accuracy on images of groups that the head was not fitted to.

    `by_class`: one for each label, None where all its images are of one group, so that nothing can test
    it; these images do not count in `overall`. `logits` (n, n_way): of each image from the fold that left
    it out; −inf for classes which that fold had no image of.
    """

    overall: Proportion
    by_class: tuple[Proportion | None, ...]
    logits: Tensor

    @property
    def predictions(self) -> Tensor:
        """The label given to each image, (n,)."""
        return self.logits.argmax(1)


@dataclass(frozen=True, eq=False)
class ShotsCurve:
    """Accuracy at `shots` images a class, the mean over draws of support sets; all draws answer for all shots.

    `right`, `asked` (n_shots, n_images): how often each image was a query and right; `limited_by`: labels
    with too few images for more shots.
    """

    shots: tuple[int, ...]
    points: tuple[Proportion, ...]
    right: np.ndarray
    asked: np.ndarray
    groups: np.ndarray
    limited_by: tuple[int, ...]


@torch.no_grad()
def predict_left_out(
    head: Head,
    features: Tensor,
    labels: Sequence[int],
    groups: Sequence[object] | None = None,
    n_way: int = 0,
    seed: int = 0,
) -> FolderEstimate:
    """Predict each group's images by a head fitted to images of other groups, see `fold_supports`.

    `features` (n, D), `labels` (n,) from 0, `groups` (n,); without groups each image is one. Folds with
    groups of one size go through the head together, the images left out with the label −1. `n_way`: number
    of classes, where some have no image. Raises `DataError` where no class has images of two groups.
    """
    label, group = _check(features, labels, groups)
    n_way = max(n_way, int(label.max()) + 1)
    members = [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]
    sizes = np.array([len(rows) for rows in members])
    logits = features.new_empty((len(label), n_way))
    chunk = max(1, CHUNK_BYTES // (features.numel() * features.element_size()))
    seen = torch.from_numpy(np.where(fold_supports(label, group, seed), label, PADDING)).to(features.device)
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        for start in range(0, len(same), chunk):
            those = same[start : start + chunk]
            left_out = torch.from_numpy(np.stack([members[g] for g in those])).to(features.device)  # (B, size)
            support_labels = seen[torch.from_numpy(those).to(features.device)]  # (B, n)
            support = features.expand(len(left_out), -1, -1)  # (B, n, D), not copied
            logits[left_out] = head(support, support_labels, features[left_out], n_way).to(logits.dtype)
    tested = _find_tested(label, group, n_way)
    asked = tested[label]
    right = (logits.argmax(1).cpu().numpy() == label) & asked
    by = None if groups is None else group
    of_class = [proportion(right, asked & (label == c), by) if tested[c] else None for c in range(n_way)]
    return FolderEstimate(proportion(right, asked, by), tuple(of_class), logits)


def fold_supports(label: np.ndarray, group: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which images the head of each fold is fitted to, (n_groups, n) bool: fold g leaves out group g, and more.

    Of each class that group g has no image of, the images of one of its groups are left out too, drawn at random
    (where it has others): else the class of the images left out would always be the one with the fewest, which a
    fitted head takes for rare. Eight euro coins by four photographs each came to 28% so, and to 53% in this way.
    """
    n_groups, n_way = int(group.max()) + 1, int(label.max()) + 1
    groups_of = [np.unique(group[label == c]) for c in range(n_way)]
    supports = np.ones((n_groups, len(label)), bool)
    for g in range(n_groups):
        draw = np.random.default_rng((seed, g))
        supports[g, group == g] = False
        for c in range(n_way):
            if len(groups_of[c]) > 1 and g not in groups_of[c]:
                supports[g, (label == c) & (group == draw.choice(groups_of[c]))] = False
    return supports


@torch.no_grad()
def measure_shots_curve(
    head: Head,
    features: Tensor,
    labels: Sequence[int],
    groups: Sequence[object] | None = None,
    shots: Sequence[int] | None = None,
    n_draws: int = 100,
    seed: int = 0,
) -> ShotsCurve:
    """Accuracy with k images a class, over `n_draws` draws; support and queries share no group.

    Draw i comes from `(seed, i)` alone: groups in random order become query groups until each class
    (of two groups or more) has a query, then each class gives k of its remaining images; those of a smaller k
    are among those of a larger one, and the queries are the same for all k. `shots`: None: 1, 2, 4, … and the
    most that every draw allows. Every class has the same number of queries in a draw, and every draw.
    """
    label, group = _check(features, labels, groups)
    n_way = int(label.max()) + 1
    tested = np.flatnonzero(_find_tested(label, group, n_way))
    draws = [_draw(label, group, tested, n_way, np.random.default_rng((seed, i))) for i in range(n_draws)]
    rest = np.array([[len(rows) for rows in support] for support, _ in draws])  # (n_draws, n_way)
    most = int(rest.min())
    chosen = _choose_shots(shots, most)
    n_query = min(len(rows) for _, query in draws for rows in query)
    query = torch.tensor(np.stack([np.concatenate([rows[:n_query] for rows in q]) for _, q in draws]))
    truth = label[query.numpy()]  # (n_draws, n_tested * n_query)
    right, asked = (np.zeros((len(chosen), len(label))) for _ in range(2))
    for row, k in enumerate(chosen):
        support = torch.tensor(np.stack([np.concatenate([rows[:k] for rows in s]) for s, _ in draws]))
        hit = _predict(head, features, label, support, query, n_way) == truth
        np.add.at(right[row], query.numpy(), hit)
        np.add.at(asked[row], query.numpy(), 1)
    by = None if groups is None else group
    points = tuple(proportion(r, a, by) for r, a in zip(right, asked, strict=True))
    fewest = rest.min(0)
    return ShotsCurve(chosen, points, right, asked, group, tuple(np.flatnonzero(fewest == most).tolist()))


def _predict(head: Head, features: Tensor, label: np.ndarray, support: Tensor, query: Tensor, n_way: int) -> np.ndarray:
    """Labels (n_draws, n_query) given to rows `query` by heads fitted to rows `support` (n_draws, n_support)."""
    chunk = max(1, CHUNK_BYTES // (support.shape[1] * features.shape[1] * features.element_size()))
    support_labels = torch.from_numpy(label)[support]
    found = []
    for s, y, q in zip(support.split(chunk), support_labels.split(chunk), query.split(chunk), strict=True):
        at = features.device
        found.append(head(features[s.to(at)], y.to(at), features[q.to(at)], n_way).argmax(2).cpu())
    return torch.cat(found).numpy()


def _draw(
    label: np.ndarray, group: np.ndarray, tested: np.ndarray, n_way: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows for support of each class and for queries of each tested class, in random order; no group in both."""
    table = np.zeros((int(group.max()) + 1, n_way), np.int64)  # images of each class in each group
    np.add.at(table, (group, label), 1)
    is_query = _choose_query_groups(table, tested, rng)
    order = rng.permutation(len(label))
    rows = [order[label[order] == c] for c in range(n_way)]
    return [r[~is_query[group[r]]] for r in rows], [rows[c][is_query[group[rows[c]]]] for c in tested]


def _choose_query_groups(table: np.ndarray, tested: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which groups give queries, (n_groups,) bool: a query for each tested class, and every class keeps an image."""
    for _ in range(MAX_TRIES):  # an order of the groups may lead nowhere: the next one
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
        f"class {tested[asked[tested] == 0][0]} cannot have a query of one group while every class keeps an image in "
        "the others: too few groups hold all images of a class; add photographs of other groups"
    )


def _choose_shots(shots: Sequence[int] | None, most: int) -> tuple[int, ...]:
    if shots is None:
        return tuple(sorted({2**p for p in range(most.bit_length())} | {most}))
    chosen = tuple(sorted(set(shots)))
    if not chosen or chosen[0] < 1 or chosen[-1] > most:
        raise DataError(f"shots {list(shots)} must be from 1 to {most}, the most that this folder allows")
    return chosen


def _find_tested(label: np.ndarray, group: np.ndarray, n_way: int) -> np.ndarray:
    """Whether each class has images of two groups or more, (n_way,) bool."""
    pairs = np.unique(np.stack([label, group]), axis=1)
    tested = np.bincount(pairs[0], minlength=n_way) > 1
    if not tested.any():
        raise DataError("no class has images of two groups: nothing can be tested; add photographs of other groups")
    return tested


def _check(features: Tensor, labels: Sequence[int], groups: Sequence[object] | None) -> tuple[np.ndarray, np.ndarray]:
    """Labels and dense groups as int64 (n,); one group for each image where none are given."""
    label = np.asarray(labels, dtype=np.int64)
    group = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if features.ndim != 2 or not len(features) == len(label) == len(group):
        got = f"features {tuple(features.shape)}, {len(label)} labels, {len(group)} groups"
        raise DataError(f"need features (n, D) with n labels and n groups, got {got}")
    if label.min() < 0 or len(np.unique(label)) < 2:
        raise DataError(f"labels must be 0 or more and of two classes or more, got {sorted(set(label.tolist()))[:5]}")
    return label, group
