"""Finds photographs that may lie in the wrong folder: their class and the answer without them disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewshot.estimator.confidence import fit_temperature
from fewshot.photographs.inspection.findings import Finding, Flagged, choose_pronoun
from fewshot.photographs.inspection.learning_curve import FolderEstimate
from fewshot.runtime.counts import format_count

# Chosen on planted errors in world coins' and CIFAR-FS's validation classes, 5 photographs of each of 8 classes: of 150
# planted 63% and 70% are named there, beside 1.9 and 1.5 of 39 right ones; see docs/results/trust.md for others.
SUSPICIOUS = -3.0
N_NEAREST = 3


@dataclass(frozen=True)
class Suspect:
    """A photograph whose class looks wrong: `row`, its `label` and the `likeliest` class of the rest.

    `own`, `best`: probabilities of both. `nearest`: rows of the most similar photographs, the most similar first.
    """

    row: int
    label: int
    likeliest: int
    own: float
    best: float
    nearest: tuple[int, ...]


def score_labels(
    estimate: FolderEstimate, labels: Sequence[int], similarity: Tensor, groups: Sequence[object] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score how well each photograph fits its label, (n,), and probabilities (n, n_way) by the fold that left it out.

    The sum of two numbers, each in standard deviations over the folder. The probability of its own label, less its mean
    over the photographs of that label (confident learning: Northcutt, Jiang, Chuang, Journal of Artificial Intelligence
    Research 70, 2021, https://arxiv.org/abs/1911.00068). And how much more alike the nearest photograph of its label is
    than the nearest of any other. Photographs of a class that nothing tests get infinity.

    Args:
        estimate: of `predict_left_out`.
        labels: (n,) from 0.
        similarity: (n, n) of features, larger is more alike.
        groups: (n,); photographs of one group say nothing about each other.
    """
    label = np.asarray(labels)
    tested = np.array([p is not None for p in estimate.by_class])[label]
    rows = np.flatnonzero(tested)
    found, truth = estimate.logits[torch.from_numpy(rows)], torch.from_numpy(label[rows])
    probabilities = (estimate.logits.double() / fit_temperature(found, truth)).softmax(1).numpy()
    own = probabilities[np.arange(len(label)), label]
    total = np.bincount(label, own, len(estimate.by_class))
    own = own - (total / np.bincount(label, minlength=len(total)).clip(1))[label]
    group = np.arange(len(label)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    alike = np.where(group[:, None] == group, -np.inf, similarity.double().numpy())
    same = label[:, None] == label
    nearest = np.where(same, alike, -np.inf).max(1) - np.where(same, -np.inf, alike).max(1)
    score = np.full(len(label), np.inf)
    score[rows] = _standardise(own[rows]) + _standardise(nearest[rows])
    return score, probabilities


def find_suspects(
    estimate: FolderEstimate, labels: Sequence[int], similarity: Tensor, groups: Sequence[object] | None = None
) -> list[Suspect]:
    """Find the photographs that another class claims and that fit their own badly, the most suspicious first."""
    score, probabilities = score_labels(estimate, labels, similarity, groups)
    label, likeliest = np.asarray(labels), probabilities.argmax(1)
    chosen = np.flatnonzero((score < SUSPICIOUS) & (likeliest != label))
    found = []
    for row in chosen[np.argsort(score[chosen])].tolist():
        others = similarity[row].clone()
        others[row] = -torch.inf
        nearest = others.topk(min(N_NEAREST, len(label) - 1)).indices.tolist()
        own, best = (float(probabilities[row, c]) for c in (label[row], likeliest[row]))
        found.append(Suspect(row, int(label[row]), int(likeliest[row]), own, best, tuple(nearest)))
    return found


def describe_suspects(suspects: Sequence[Suspect], files: Sequence[str], class_names: Sequence[str]) -> list[Finding]:
    """Make a finding of `suspects`, with pictures of those that each is most like; none where there is no suspect."""
    if not suspects:
        return []
    flagged = tuple(
        Flagged(
            (files[s.row],),
            f"its folder says {class_names[s.label]} ({s.own:.0%}), the others say {class_names[s.likeliest]} "
            f"({s.best:.0%})",
            tuple(files[row] for row in s.nearest),
        )
        for s in suspects
    )
    count = format_count(len(suspects), "photograph looks", "photographs look")
    text = (
        f"{count} like another class: see whether {choose_pronoun(suspects, 'it lies', 'they lie')} in the right "
        "folder, the most suspicious first"
    )
    return [Finding("suspicious labels", "warning", text, flagged)]


def _standardise(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
