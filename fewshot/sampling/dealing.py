"""Turn uniform random numbers into integers of a range, and into draws without replacement."""

import numpy as np

MAX_DECK = 1 << 24  # cards that are shuffled at once: bounds the memory


def scale_to_range(u: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    """Scale uniform numbers in [0, 1) to integers in low..high."""
    return limits[0] + np.floor(u * (limits[1] - limits[0] + 1)).astype(np.int64)


def deal_cards(u: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Draw k cards without replacement from each of R decks of `sizes` (R,) cards: (R, k).

    `u` (R, k) is uniform in [0, 1). This is the Fisher–Yates shuffle of all decks at once; k is at most the size of a
    deck.
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
