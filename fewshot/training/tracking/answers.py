"""Collects a method's answer to each query of an evaluation: confusions, accuracy by class, calibration."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewshot.runtime import processes
from fewshot.sampling.episodes import PADDING, Episode, EpisodeSampler

N_BINS = 10  # in the calibration curve


class Pair(NamedTuple):
    """Two classes that are confused with each other.

    `wrong`: how many queries of `a` were predicted as `b`, and of `b` as `a`. `asked`: how many queries of `a` were in
    an episode with `b`, and of `b` in an episode with `a`.
    """

    a: int
    b: int
    wrong: tuple[int, int]
    asked: tuple[int, int]


class Bin(NamedTuple):
    """Queries whose predictions had similar probabilities: mean probability, accuracy and number."""

    probability: float
    accuracy: float
    n_queries: int


@dataclass(frozen=True)
class Answers:
    """The answers to the n queries of `n_classes` classes.

    `asked` (n_classes, n_classes): how many queries of class i were in an episode with class j. `episodes`, `rows`,
    `classes`, `answers` (n,): index of the episode, row of the image set, class_id of the query, and class_id of the
    predicted class. `p_class`, `p_answer` (n,): probability (softmax of the logits) of the query's class, and of the
    predicted class.
    """

    asked: np.ndarray
    episodes: np.ndarray
    rows: np.ndarray
    classes: np.ndarray
    answers: np.ndarray
    p_class: np.ndarray
    p_answer: np.ndarray

    @cached_property
    def confusion(self) -> np.ndarray:
        """How many queries of class i were predicted as class j, (n_classes, n_classes)."""
        confusion = np.zeros_like(self.asked)
        np.add.at(confusion, (self.classes, self.answers), 1)
        return confusion

    @property
    def class_accuracy(self) -> np.ndarray:
        """The accuracy on queries of each class, (n_classes,); NaN for classes without a query."""
        asked = self.asked.diagonal()
        return np.where(asked > 0, self.confusion.diagonal() / np.maximum(asked, 1), np.nan)

    def hardest_pairs(self, count: int) -> list[Pair]:
        """Find the `count` pairs of classes that are confused most often; pairs without a confusion are left out."""
        wrong = np.triu(self.confusion + self.confusion.T, 1)
        first = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(at), len(wrong)) for at in first if wrong.flat[at]]

        def both(table: np.ndarray, a: int, b: int) -> tuple[int, int]:
            return int(table[a, b]), int(table[b, a])

        return [Pair(a, b, both(self.confusion, a, b), both(self.asked, a, b)) for a, b in pairs]

    def calibration(self) -> list[Bin]:
        """Bin the queries by the probability of their answers, in `N_BINS` bins of equal width; omit empty bins."""
        steps = np.minimum((self.p_answer * N_BINS).astype(int), N_BINS - 1)
        correct = self.classes == self.answers
        kept = [steps == step for step in range(N_BINS) if (steps == step).any()]
        return [Bin(float(self.p_answer[q].mean()), float(correct[q].mean()), int(q.sum())) for q in kept]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: |probability − accuracy| of the bins, weighted by their queries."""
        bins = self.calibration()
        return sum(b.n_queries * abs(b.probability - b.accuracy) for b in bins) / len(self.rows)

    def most_wrong(self, count: int) -> np.ndarray:
        """Find the `count` wrong answers that gave the query's class the least probability; positions (k,)."""
        wrong = np.flatnonzero(self.classes != self.answers)
        return wrong[np.argsort(self.p_class[wrong], kind="stable")][:count]


class AnswersWatch:
    """Collects the answers of an evaluation on the episodes of `sampler`, as the `watch` of `evaluate`."""

    def __init__(self, sampler: EpisodeSampler, n_classes: int) -> None:
        self.sampler, self.asked = sampler, np.zeros((n_classes, n_classes), np.int64)
        self.batches: list[tuple[np.ndarray, ...]] = []

    def __call__(self, first: int, episode: Episode, logits: Tensor) -> None:
        labels, classes = episode.query_labels.cpu(), episode.classes.cpu()
        probabilities = logits.float().softmax(-1).cpu()  # (B, n_query, n_way)
        part, own = labels != PADDING, labels.clamp(min=0)
        columns = (
            torch.arange(first, first + len(episode))[:, None].expand_as(labels),
            self.sampler.batch(first, len(episode)).query,
            classes.gather(1, own),
            classes.gather(1, probabilities.argmax(-1)),
            probabilities.gather(2, own[..., None])[..., 0],
            probabilities.amax(-1),
        )
        self.batches.append(tuple(column[part].numpy() for column in columns))
        n_queries = torch.nn.functional.one_hot(labels - PADDING, classes.shape[1] + 1)[..., 1:].sum(1)  # (B, n_way)
        for own_classes, counts in zip(classes.unbind(1), n_queries.unbind(1), strict=True):
            met = (own_classes[:, None] != PADDING) & (classes != PADDING)  # (B, n_way)
            pairs = own_classes[:, None].expand_as(classes)[met].numpy(), classes[met].numpy()
            np.add.at(self.asked, pairs, counts[:, None].expand_as(classes)[met].numpy())

    def gather(self) -> Answers:
        """Gather the answers of all processes, in the order of episodes; every process must call it."""
        batches = processes.interleave(processes.gather(self.batches))
        columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        return Answers(np.sum(processes.gather(self.asked), axis=0), *columns)
