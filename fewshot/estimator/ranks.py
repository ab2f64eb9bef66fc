"""Cross-validation folds, and what an image of a group counts; numpy only, since predictors use it too."""

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


def weigh_groups(labels: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """1 / the number of images of the same class and group, (n,); 1 where each image is a group of its own."""
    if groups is None or not len(labels):
        return np.ones(len(labels))
    _, unit, count = np.unique(
        np.stack([labels, np.unique(groups, return_inverse=True)[1]]), axis=1, return_inverse=True, return_counts=True
    )
    return 1 / count[unit.ravel()]
