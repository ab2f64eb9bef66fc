"""Episodes: support and query images, drawn as a pure function of (seed, index)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.errors import EpisodeError
from fewshot.runtime.seeding import derive
from fewshot.runtime.transfer import send
from fewshot.sampling.dealing import deal_cards, scale_to_range
from fewshot.sampling.spec import EpisodeSpec, bounds

PADDING = -1  # label of images that only pad a ragged episode and take no part in it
MAX_ATTEMPTS = 1000


class LabelledData(Protocol):
    """The data from which episodes are drawn: an `ImageSet`, or a `FeatureSet` made of one."""

    @property
    def labels(self) -> np.ndarray: ...
    @property
    def groups(self) -> np.ndarray | None: ...
    @property
    def class_names(self) -> Sequence[str]: ...

    def gather(self, rows: Tensor) -> Tensor:
        """Gather the images or features of `rows` (any shape): (*rows.shape, …)."""


@dataclass(frozen=True)
class _Fields:
    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    n_way: int
    classes: Tensor
    unpadded: bool = False

    def __len__(self) -> int:
        return len(self.support)


@dataclass(frozen=True)
class EpisodeRows(_Fields):
    """A batch of B episodes as row numbers of the data that they were drawn from.

    Args:
        support: row numbers (B, n_support).
        support_labels: as in `Episode`, like all that follow.
        query: row numbers (B, n_query).
        query_labels: see `Episode`.
        n_way: see `Episode`.
        classes: see `Episode`.
        unpadded: see `Episode`.
    """

    def fill(self, data: LabelledData) -> "Episode":
        """Replace the row numbers by the images or features of `data`."""
        support, query = data.gather(self.support), data.gather(self.query)
        fields = vars(self) | {"support": support, "query": query}
        return Episode(**fields, of_features=not isinstance(data, ImageSet))


@dataclass(frozen=True)
class Episode(_Fields):
    """A batch of B episodes.

    Args:
        support: images (B, n_support, C, H, W), or features (B, n_support, D), or maps (B, n_support, c, h, w).
        support_labels: (B, n_support), 0..n_way-1, or -1 for padding: in a ragged episode the images labelled -1 take
            no part.
        query: images, features or maps, (B, n_query, …).
        query_labels: (B, n_query), like `support_labels`.
        n_way: the largest number of classes of an episode in the batch.
        classes: (B, n_way), the class_id of each label, -1 where an episode has fewer classes.
        unpadded: True if no image is padding, which is known without reading the labels from the device.
        of_features: whether it contains features or maps instead of images.
    """

    of_features: bool = False

    @property
    def query_mask(self) -> Tensor:
        """Mask of the queries that take part, (B, n_query) bool: all but padding."""
        return self.query_labels != PADDING

    def to(self, device: torch.device | str) -> Self:
        """Copy the episodes to `device`."""
        moved = {k: send(v, device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class EpisodeSampler:
    """Draws episodes of the form `spec` from `data`, an `ImageSet` or a `FeatureSet`.

    Episode i depends on `(seed, i)` alone: not on earlier draws, on the number of workers, devices or processes, nor on
    the batch in which it is drawn. It uses the words [i * W, (i + 1) * W) of a counter-based random stream (Philox), so
    a batch is drawn at once, without a loop over episodes.

    Args:
        data: the labelled data; with `disjoint_groups` they need groups.
        spec: ways, shots and queries of an episode.
        seed: chooses one of many endless lists of episodes.

    Raises:
        EpisodeError: if `data` has too few classes, images or groups for `spec`; the message names them.
    """

    def __init__(self, data: LabelledData, spec: EpisodeSpec, seed: int = 0) -> None:
        self.data, self.spec, self.seed = data, spec, seed
        self._way, self._shot, self._query = map(bounds, (spec.n_way, spec.n_shot, spec.n_query))
        sizes = np.bincount(data.labels, minlength=len(data.class_names))
        self._check(sizes)
        order = np.argsort(data.labels, kind="stable")  # rows, class by class
        self._sizes, self._rows, self._starts = sizes, order, np.cumsum(sizes) - sizes

    def batch(self, first: int, count: int) -> EpisodeRows:
        """Draw the episodes first .. first + count - 1.

        Args:
            first: index of the first episode, from 0 on.
            count: how many episodes, at least one.

        Returns:
            The episodes as row numbers.

        Raises:
            EpisodeError: for a negative `first`, a `count` below one, and groups that cannot be kept apart.
        """
        if count < 1 or first < 0:
            raise EpisodeError(f"first must be at least 0 and count at least 1, got first={first}, count={count}")
        draw = self._draw_disjoint if self.spec.disjoint_groups else self._draw
        classes, rows, shots, queries = draw(first, count)
        return self._assemble(classes, rows, shots, queries)

    def _draw(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draw classes (B, way), rows (B, way, shot + query), and the shots and queries of each class (B, way)."""
        way, deal = self._way[1], self._shot[1] + self._query[1]
        u = self._draw_uniform(first, count, 1 + way * (3 + deal))
        u_way, u_class, u_shot, u_query, u_rows = np.split(u, np.cumsum([1, way, way, way]), axis=1)
        classes = deal_cards(u_class, np.full(count, len(self._sizes)))  # (B, way)
        picks = deal_cards(u_rows.reshape(count * way, deal), self._sizes[classes].reshape(-1))
        rows = self._rows[self._starts[classes][..., None] + picks.reshape(count, way, deal)]
        absent = np.arange(way) >= scale_to_range(u_way, self._way)  # (B, way)
        classes = np.where(absent, PADDING, classes)
        return classes, rows, scale_to_range(u_shot, self._shot), scale_to_range(u_query, self._query)

    def _draw_disjoint(self, first: int, count: int) -> tuple[np.ndarray, ...]:
        """Draw as `_draw`, but one episode at a time: first the support, then queries from other groups.

        If too few queries are left for a class, the support is drawn again. So the support is uniformly distributed
        among the support sets for which there are enough queries.
        """
        classes, _, shots, queries = self._draw(first, count)
        rows = [self._draw_disjoint_rows(first + b, classes[b]) for b in range(count)]
        return classes, np.stack(rows), shots, queries

    def _draw_disjoint_rows(self, index: int, classes: np.ndarray) -> np.ndarray:
        """Draw rows (way, shot + query) of episode `index`; absent classes repeat the rows of the first class."""
        n_shot, n_query, groups = self._shot[1], self._query[1], self.data.groups
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
        counts = {self.data.class_names[c]: len(np.unique(groups[self.data.labels == c])) for c in present}
        raise EpisodeError(
            f"{self.data}: in {MAX_ATTEMPTS} attempts no episode of {self.spec} was found for the classes "
            f"(with their numbers of groups) {counts}; ask for fewer shots, queries or ways"
        )

    def _draw_uniform(self, first: int, count: int, n_words: int) -> np.ndarray:
        """Draw uniform numbers in [0, 1), (count, n_words), for the episodes from `first` on."""
        blocks = -(-n_words // 4)  # Philox advances by blocks of four words
        stream = np.random.Philox(key=derive(self.seed, "episodes")).advance(first * blocks)
        words = stream.random_raw(count * blocks * 4).reshape(count, -1)[:, :n_words]
        return (words >> np.uint64(11)) * 2.0**-53

    def _assemble(self, classes: np.ndarray, rows: np.ndarray, shots: np.ndarray, queries: np.ndarray) -> EpisodeRows:
        count, way = classes.shape
        n_shot, n_query = self._shot[1], self._query[1]
        label = np.where(classes == PADDING, PADDING, np.arange(way))[..., None]  # (B, way, 1)
        support_labels = np.where(np.arange(n_shot) < shots[..., None], label, PADDING)
        query_labels = np.where(np.arange(n_query) < queries[..., None], label, PADDING)
        return EpisodeRows(
            support=torch.from_numpy(rows[..., :n_shot].reshape(count, way * n_shot)),
            support_labels=torch.from_numpy(support_labels.reshape(count, way * n_shot)),
            query=torch.from_numpy(rows[..., n_shot:].reshape(count, way * n_query)),
            query_labels=torch.from_numpy(query_labels.reshape(count, way * n_query)),
            n_way=way,
            classes=torch.from_numpy(classes),
            unpadded=all(low == high for low, high in (self._way, self._shot, self._query)),
        )

    def _check(self, sizes: np.ndarray) -> None:
        """Raise `EpisodeError` if classes with `sizes` (n_classes,) images are too few or too small for `spec`."""
        data, spec, names = self.data, self.spec, self.data.class_names
        need = self._shot[1] + self._query[1]
        if len(sizes) < self._way[1]:
            raise EpisodeError(f"{data} has {len(sizes)} classes, too few for {spec}")
        small = {names[c]: int(sizes[c]) for c in np.flatnonzero(sizes < need)}
        if small:
            raise EpisodeError(
                f"{data}: {spec} needs {need} images of each class, but {len(small)} classes have fewer: "
                f"{_list_counts(small)}. Ask for fewer shots or queries, or leave those classes out: remove their "
                f"images, or in Python ImageSet.with_min_images({need})"
            )
        if spec.disjoint_groups:
            if data.groups is None:
                raise EpisodeError(f"{data} has no groups, which disjoint_groups needs")
            groups = {name: len(np.unique(data.groups[data.labels == c])) for c, name in enumerate(names)}
            single = {name: n for name, n in groups.items() if n < 2}
            if single:
                raise EpisodeError(f"{data}: disjoint_groups needs two groups in each class: {_list_counts(single)}")


def _list_counts(counts: dict[str, int], n: int = 10) -> str:
    text = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:n])
    return text + (f" and {len(counts) - n} more" if len(counts) > n else "")
