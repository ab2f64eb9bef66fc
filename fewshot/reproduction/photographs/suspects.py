"""How many planted wrong labels `check` names, and how many right ones."""

import numpy as np

from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.photographs.inspection.learning_curve import predict_left_out
from fewshot.photographs.inspection.suspects import find_suspects, score_labels
from fewshot.photographs.suggestions import measure_likeness
from fewshot.reproduction.photographs.sets import EmbeddedSet, draw_folder

N_WAY = 8


def measure_suspects(data: EmbeddedSet, n_shot: int, n_repetitions: int) -> dict[str, object]:
    """Plant one wrong label in folders of 8 classes, and look where it stands.

    `rank`: its place among all photographs by suspicion, from 0; `named`: whether it is in the finding; `false`: how
    many of the rightly labelled ones are, and `clean`: how many where nothing was planted.
    """
    ranks, named, false, clean = [], [], [], []
    for repetition in range(n_repetitions):
        rng = np.random.default_rng((repetition, n_shot, 25))
        rows, truth = draw_folder(data, N_WAY, n_shot, rng)
        features, groups = data.features[rows], data.groups[rows]
        likeness = measure_likeness(data.method, features)
        labels, planted = truth.copy(), int(rng.integers(len(truth)))
        labels[planted] = (truth[planted] + rng.integers(1, truth.max() + 1)) % (truth.max() + 1)
        estimate = predict_left_out(data.method.predict_among, features, labels, groups, seed=repetition)
        score, _ = score_labels(estimate, labels, likeness, groups)
        found = [suspect.row for suspect in find_suspects(estimate, labels, likeness, groups)]
        ranks.append(int((score < score[planted]).sum()))
        named.append(int(planted in found))
        false.append(len(found) - named[-1])
        estimate = predict_left_out(data.method.predict_among, features, truth, groups, seed=repetition)
        clean.append(len(find_suspects(estimate, truth, likeness, groups)))
    return {"n_shot": n_shot, "n_images": len(truth), "rank": ranks, "named": named, "false": false, "clean": clean}


def format_suspects(records: list[dict]) -> str:
    """Make the table of `measure_suspects`' records."""
    lines = [
        "| data set | photographs | planted one among the first 5 | first | named | right ones named beside it | "
        "named where nothing is planted |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        rank = np.array(r["rank"])
        shares = [100 * (rank < 5), 100 * (rank < 1), 100 * np.array(r["named"])]
        cells = [*(f"{e.mean:.0f} ± {e.half_width_95:.0f}%" for e in map(compute_mean_interval, shares))]
        cells += [
            f"{e.mean:.2f} ± {e.half_width_95:.2f}" for e in (compute_mean_interval(r[k]) for k in ("false", "clean"))
        ]
        lines.append(f"| {r['dataset']} | {r['n_images']} of {N_WAY} classes | {' | '.join(cells)} |")
    return "\n".join(lines)
