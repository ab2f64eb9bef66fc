"""Cross-validation folds, and thresholds from ranks of held-out scores; numpy only, since predictors use it too."""

import numpy as np

MAX_FOLDS = 10


def deal_folds(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Assign images to at most 10 cross-validation folds, (n,); -1: never held out, since its class has one fold only.

    Images of one group share a fold; without groups, each image is its own group. The groups whose first image has
    the same class are dealt to the folds in turn, so that each fold holds out about the same share of every class.
    """
    number = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    _, first = np.unique(number, return_index=True)  # row of each group's first image
    dealt = np.zeros(len(first), np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[first] == label)
        dealt[mine[np.argsort(first[mine])]] = np.arange(len(mine))
    fold = dealt[number] % MAX_FOLDS
    for label in np.unique(labels):
        mine = labels == label
        if len(np.unique(fold[mine])) == 1:
            fold[mine] = -1
    return fold


def choose_threshold(unknown: np.ndarray, false_accept_rate: float) -> float:
    """Choose the lowest threshold at which a new image of an unknown class is accepted with at most this probability.

    Split-conformal prediction, Vovk et al. 2005, section 4.1: if n + 1 scores are exchangeable, the new one is among
    the k highest with probability k / (n + 1). If that exceeds the rate even for k = 1, the threshold lies just above
    all of `unknown` (n,): so few images allow no stricter one.
    """
    rank = int(np.floor(false_accept_rate * (len(unknown) + 1) + 1e-9))
    highest = np.sort(unknown)[::-1]
    return float(np.nextafter(highest[max(rank, 1) - 1], np.inf)) if rank <= len(unknown) else -np.inf
