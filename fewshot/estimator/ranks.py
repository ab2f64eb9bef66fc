"""What ranks of held-out images tell, by numpy alone: folds to hold out, thresholds by conformal prediction."""

import numpy as np

MAX_FOLDS = 10


def deal_folds(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Which fold each image is held out in, (n,); -1: in none, because its class would be left empty.

    Images of a group share a fold; without groups each image is one. At most 10 folds, dealt in order of first
    appearance among the groups that begin with the same class: each fold then holds out much the same of each class.
    """
    number = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    _, first = np.unique(number, return_index=True)  # of each group
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
    """The lowest score to accept, so that a further image of an unknown class is accepted with this chance at most.

    The rank that split-conformal prediction takes, Vovk et al. 2005, section 4.1: of n + 1 scores that may come in any
    order the last is among the k highest with a chance of k / (n + 1). Where that is too much even for k = 1, the
    threshold lies above all of `unknown` (n,), the most that they can tell.
    """
    rank = int(np.floor(false_accept_rate * (len(unknown) + 1) + 1e-9))
    highest = np.sort(unknown)[::-1]
    return float(np.nextafter(highest[max(rank, 1) - 1], np.inf)) if rank <= len(unknown) else -np.inf
