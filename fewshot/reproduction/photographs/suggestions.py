"""Whether labels of suggested photographs help more than those of random ones."""

import numpy as np
import torch

from fewshot.evaluation.statistics import compute_mean_interval, compute_paired_difference
from fewshot.photographs.suggestions import choose_next, measure_likeness
from fewshot.reproduction.photographs.sets import EmbeddedSet, draw_folder

N_WAY, N_SHOT, N_LABELS, POOL = 8, 2, 8, 150


def measure_suggestions(data: EmbeddedSet, n_repetitions: int) -> dict[str, object]:
    """Accuracies on other groups, before and after 8 more labels, suggested ones and random ones.

    Half of the groups are for the test; of the others come 2 photographs a class, which are labelled, and up to 150
    unlabelled ones of groups of their own, as many of a class as happen to be there.
    """
    before, chosen, at_random = [], [], []
    for repetition in range(n_repetitions):
        rng = np.random.default_rng((repetition, 26))
        support, labels = draw_folder(data, N_WAY, N_SHOT, rng)
        label_of = dict(zip(data.labels[support].tolist(), labels.tolist(), strict=True))
        free = np.flatnonzero(np.isin(data.labels, list(label_of)) & ~np.isin(data.groups, data.groups[support]))
        groups = rng.permutation(np.unique(data.groups[free]))
        tested = np.isin(data.groups[free], groups[: len(groups) // 2])
        pool, test = rng.permutation(free[~tested])[:POOL], free[tested]
        features = data.features[pool]
        known = measure_likeness(data.method, features, data.features[support])
        best = choose_next(measure_likeness(data.method, features), known, N_LABELS, data.groups[pool].tolist())
        before.append(_measure(data, label_of, support, test))
        chosen.append(_measure(data, label_of, np.concatenate([support, pool[best]]), test))
        at_random.append(_measure(data, label_of, np.concatenate([support, rng.permutation(pool)[:N_LABELS]]), test))
    return {"before": before, "suggested": chosen, "random": at_random}


def _measure(data: EmbeddedSet, label_of: dict[int, int], support: np.ndarray, test: np.ndarray) -> float:
    """Measure the accuracy on rows `test` of the method fitted to rows `support`."""
    known, truth = (torch.tensor([label_of[c] for c in data.labels[rows].tolist()]) for rows in (support, test))
    with torch.no_grad():
        logits = data.method.head(data.features[support][None], known[None], data.features[test][None], N_WAY)[0]
    return float((logits.argmax(1) == truth).double().mean())


def format_suggestions(records: list[dict]) -> str:
    """Make the table of `measure_suggestions`' records."""
    lines = [
        "| data set | 16 labels | and 8 at random | and 8 suggested | difference, paired |",
        "|---|---|---|---|---|",
    ]
    for r in records:
        cells = [compute_mean_interval(r[key]) for key in ("before", "random", "suggested")]
        said = [f"{100 * e.mean:.1f} ± {100 * e.half_width_95:.1f}" for e in cells]
        gain = compute_paired_difference(r["suggested"], r["random"])
        said.append(f"{100 * gain.mean:+.1f} ± {100 * gain.half_width_95:.1f}".replace("-", "−"))
        lines.append(f"| {r['dataset']} | {' | '.join(said)} |")
    return "\n".join(lines)
