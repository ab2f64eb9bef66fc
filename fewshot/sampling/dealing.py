"""Uniform numbers made into draws: integers of a range, and cards of shuffled decks."""

import numpy as np

MAX_DECK = 1 << 24  # cells shuffled at once, a bound on memory


def scale_to_range(u: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Uniform numbers in [0, 1) as integers in low..high."""
    return limits[0] + np.floor(u * (limits[1] - limits[0] + 1)).astype(np.int64)


def deal_cards(u: np.ndarray, sizes: np.ndarray) -> np.ndarray:
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
