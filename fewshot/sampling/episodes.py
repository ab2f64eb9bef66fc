"""Episodes: which images are support, which are query, drawn as a pure function of (seed, index)."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.errors import EpisodeError
from fewshot.runtime.seeding import derive
from fewshot.runtime.transfer import send

Count = int | tuple[int, int]
PADDING = -1  # the label of an image that does not take part: ragged episodes are padded with them
MAX_DECK = 1 << 24  # cells shuffled at once, a bound on memory
MAX_ATTEMPTS = 1000


@dataclass(frozen=True)
class EpisodeSpec:
    """What an episode looks like: classes, support and query images of each class.

    Each count is a number, or a range (low, high), both included, drawn anew for each episode
    (`n_way`) or for each class of each episode (`n_shot`, `n_query`: unbalanced episodes).
    With `disjoint_groups` no group (photograph, writer, specimen) stands on both sides of an episode.
    """

    n_way: Count = 5
    n_shot: Count = 1
    n_query: Count = 15
    disjoint_groups: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("n_way", 2), ("n_shot", 1), ("n_query", 1)):
            low, high = bounds(getattr(self, name))
            if not lowest <= low <= high:
                raise EpisodeError(
                    f"{name} must be a number of at least {lowest} or a range (low, high), got {(low, high)}"
                )

    def __str__(self) -> str:
        way, shot, query = (
            f"{low}" if low == high else f"{low}–{high}"
            for low, high in map(bounds, (self.n_way, self.n_shot, self.n_query))
        )
        groups = ", disjoint groups" if self.disjoint_groups else ""
        return f"{way}-way {shot}-shot, {query} queries a class{groups}"


@dataclass(frozen=True)
class Episode:
    """A batch of B episodes.

    `support` (B, n_support, …), `query` (B, n_query, …): row numbers as drawn, then images
    (C, H, W) or features (D,), as the trailing dimensions say.
    `support_labels` (B, n_support), `query_labels` (B, n_query): 0..n_way-1, or -1 for padding: in a
    ragged episode the images labelled -1 take no part. `n_way`: the largest way in the batch.
    `classes` (B, n_way): the class_id behind each label, -1 where an episode has fewer ways.
    `unpadded`: it is known, without a look at the labels, that no image is padding.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    n_way: int
    classes: Tensor
    unpadded: bool = False

    def __len__(self) -> int:
        return len(self.support)

    @property
    def query_mask(self) -> Tensor:
        """Which queries take part, (B, n_query) bool: all but padding."""
        return self.query_labels != PADDING

    def with_values(self, values: Tensor) -> Self:
        """The same episodes with `values[row]` in the place of each row number."""
        support, query = (values[send(rows, values.device)] for rows in (self.support, self.query))
        return replace(self, support=support, query=query)

    def to(self, device: torch.device | str) -> Self:
        """The same episodes on `device`."""
        moved = {k: send(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class EpisodeSampler:
    """Draws episodes of `imageset` as `spec` says.

    Episode i depends on `(seed, i)` alone: not on what was drawn before, on the number of workers,
    devices or processes, or on the batch it is drawn in. It owns the words [i * W, (i + 1) * W) of a
    counter-based random stream (Philox), so any batch is drawn at once, without a loop over episodes.
    An impossible `spec` raises `EpisodeError` here, with the classes and numbers.
    """

    def __init__(self, imageset: ImageSet, spec: EpisodeSpec, seed: int = 0) -> None:
        self.imageset, self.spec, self.seed = imageset, spec, seed
        self._way, self._shot, self._query = map(bounds, (spec.n_way, spec.n_shot, spec.n_query))
        self._check()
        order = np.argsort(imageset.labels, kind="stable")  # rows, class by class
        sizes = imageset.class_counts
        self._sizes, self._rows, self._starts = sizes, order, np.cumsum(sizes) - sizes

    def batch(self, first: int, count: int) -> Episode:
        """Episodes first .. first + count - 1, as row numbers of the image set."""
        if count < 1 or first < 0:
            raise EpisodeError(f"episodes are drawn from 0 on, at least one: got first={first}, count={count}")
        draw = self._draw_disjoint if self.spec.disjoint_groups else self._draw
        classes, rows, shots, queries = draw(first, count)
        return self._assemble(classes, rows, shots, queries)

    def images(self, episode: Episode, device: torch.device | str | None = None) -> Episode:
        """The same episodes with uint8 images (B, n, C, H, W) instead of row numbers, on `device`."""
        support, query = (self.imageset.gather(rows) for rows in (episode.support, episode.query))
        with_images = replace(episode, support=support, query=query)
        return with_images if device is None else with_images.to(device)

    def _draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Classes (B, way), rows (B, way, shot + query), shots and queries of each class (B, way)."""
        way, deal = self._way[1], self._shot[1] + self._query[1]
        u = self._uniform(first, count, 1 + way * (3 + deal))
        u_way, u_class, u_shot, u_query, u_rows = np.split(u, np.cumsum([1, way, way, way]), axis=1)
        classes = _deal(u_class, np.full(count, self.imageset.n_classes))  # (B, way)
        picks = _deal(u_rows.reshape(count * way, deal), self._sizes[classes].reshape(-1))
        rows = self._rows[self._starts[classes][..., None] + picks.reshape(count, way, deal)]
        absent = np.arange(way) >= _in_range(u_way, self._way)  # (B, way)
        classes = np.where(absent, PADDING, classes)
        return classes, rows, _in_range(u_shot, self._shot), _in_range(u_query, self._query)

    def _draw_disjoint(self, first: int, count: int) -> tuple[np.ndarray, ...]:
        """As `_draw`, one episode at a time: the support uniformly, then queries of other groups.

        A support that leaves a class too few queries is drawn again; so the support is uniform
        among those for which a query set exists.
        """
        classes, _, shots, queries = self._draw(first, count)
        rows = [self._disjoint_rows(first + b, classes[b]) for b in range(count)]
        return classes, np.stack(rows), shots, queries

    def _disjoint_rows(self, index: int, classes: np.ndarray) -> np.ndarray:
        """(way, shot + query) rows of episode `index`; absent classes repeat those of the first class."""
        n_shot, n_query, groups = self._shot[1], self._query[1], self.imageset.groups
        present = [c for c in classes if c != PADDING]
        for attempt in range(MAX_ATTEMPTS):
            rng = np.random.Generator(
                np.random.Philox(key=derive(self.seed, "disjoint"), counter=[0, attempt, index, 0])
            )
            decks = [
                self._rows[self._starts[c] : self._starts[c] + self._sizes[c]][rng.permutation(self._sizes[c])]
                for c in present
            ]
            taken = groups[np.concatenate([deck[:n_shot] for deck in decks])]
            queries = [deck[~np.isin(groups[deck], taken)][:n_query] for deck in decks]
            if all(len(q) == n_query for q in queries):
                rows = [np.concatenate([d[:n_shot], q]) for d, q in zip(decks, queries, strict=True)]
                return np.stack(rows + rows[:1] * (len(classes) - len(rows)))
        counts = {self.imageset.class_names[c]: len(np.unique(groups[self.imageset.labels == c])) for c in present}
        raise EpisodeError(
            f"{self.imageset}: in {MAX_ATTEMPTS} attempts no episode of {self.spec} was found for the classes "
            f"(with their numbers of groups) {counts}; ask for fewer shots, queries or ways"
        )

    def _uniform(self, first: int, count: int, n_words: int) -> np.ndarray:
        """Numbers in [0, 1), (count, n_words), of the episodes from `first` on."""
        blocks = -(-n_words // 4)  # Philox counts in blocks of four words
        stream = np.random.Philox(key=derive(self.seed, "episodes")).advance(first * blocks)
        words = stream.random_raw(count * blocks * 4).reshape(count, -1)[:, :n_words]
        return (words >> np.uint64(11)) * 2.0**-53

    def _assemble(self, classes: np.ndarray, rows: np.ndarray, shots: np.ndarray, queries: np.ndarray) -> Episode:
        count, way = classes.shape
        n_shot, n_query = self._shot[1], self._query[1]
        label = np.where(classes == PADDING, PADDING, np.arange(way))[..., None]  # (B, way, 1)
        support_labels = np.where(np.arange(n_shot) < shots[..., None], label, PADDING)
        query_labels = np.where(np.arange(n_query) < queries[..., None], label, PADDING)
        return Episode(
            support=torch.from_numpy(rows[..., :n_shot].reshape(count, way * n_shot)),
            support_labels=torch.from_numpy(support_labels.reshape(count, way * n_shot)),
            query=torch.from_numpy(rows[..., n_shot:].reshape(count, way * n_query)),
            query_labels=torch.from_numpy(query_labels.reshape(count, way * n_query)),
            n_way=way,
            classes=torch.from_numpy(classes),
            unpadded=all(low == high for low, high in (self._way, self._shot, self._query)),
        )

    def _check(self) -> None:
        images, spec = self.imageset, self.spec
        need = self._shot[1] + self._query[1]
        if images.n_classes < self._way[1]:
            raise EpisodeError(f"{images} has {images.n_classes} classes, too few for {spec}")
        small = {images.class_names[c]: int(images.class_counts[c]) for c in np.flatnonzero(images.class_counts < need)}
        if small:
            raise EpisodeError(
                f"{images}: {spec} needs {need} images of each class, but {len(small)} classes have fewer: "
                f"{_listed(small)}. Ask for fewer shots or queries, or leave those classes out "
                f"(min_images={need}, or ImageSet.with_min_images({need}))"
            )
        if spec.disjoint_groups:
            if images.groups is None:
                raise EpisodeError(f"{images} has no groups, so disjoint_groups cannot be asked of it")
            groups = {
                name: len(np.unique(images.groups[images.labels == c])) for c, name in enumerate(images.class_names)
            }
            single = {name: n for name, n in groups.items() if n < 2}
            if single:
                raise EpisodeError(f"{images}: disjoint_groups needs two groups in each class: {_listed(single)}")


def bounds(count: Count) -> tuple[int, int]:
    """(low, high) of a number or a range."""
    low, high = (count, count) if isinstance(count, int) else count
    return int(low), int(high)


def _in_range(u: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Uniform numbers in [0, 1) as integers in low..high."""
    return limits[0] + np.floor(u * (limits[1] - limits[0] + 1)).astype(np.int64)


def _deal(u: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """For each of R decks of `sizes` (R,) cards, the first k cards of a fair shuffle: (R, k).

    `u` (R, k) uniform in [0, 1). Fisher–Yates, all decks at once; k never exceeds a deck.
    """
    (n_decks, k), largest = u.shape, int(sizes.max())
    chunk = max(1, MAX_DECK // largest)
    dealt = np.empty((n_decks, k), np.int64)
    for start in range(0, n_decks, chunk):
        part = slice(start, start + chunk)
        deck = np.tile(np.arange(largest, dtype=np.int32), (len(sizes[part]), 1))
        deck_index = np.arange(len(deck))
        for j in range(k):
            pick = j + (u[part, j] * (sizes[part] - j)).astype(np.int64)
            dealt[part, j] = deck[deck_index, pick]
            deck[deck_index, pick] = deck[:, j]
    return dealt


def _listed(counts: dict[str, int], n: int = 10) -> str:
    text = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:n])
    return text + (f" and {len(counts) - n} more" if len(counts) > n else "")
