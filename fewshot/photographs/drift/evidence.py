"""Evidence that photographs have changed: conformal test martingales, whose rate of false alarms is a theorem.

The rank of each photograph's number among those before it (those left out at fit, and all since) is uniform and
independent of the earlier ranks as long as the photographs may come in any order: Vovk, Gammerman, Shafer, Algorithmic
Learning in a Random World, 2005. So who bets against uniform ranks, with odds that are fair, gains nothing on average,
and ever multiplies the stake by 1 / a with a chance of at most a (Ville 1939): Vovk et al., Retrain or not retrain:
conformal test martingales for change-point detection, 2021, https://arxiv.org/abs/2102.10439.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

N_LEVELS = 1024  # of a number that is noted; further ones count as the outermost
# Chosen on world coins' validation countries and CIFAR-FS's validation classes, see docs/log.md.
POWERS = (0.3, 0.6)  # a bet on low ranks pays κ p^(κ − 1) for the rank p
LOW, HIGH = "low", "high"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What bets on n photographs have gained.

    Attributes:
        log_wealth: (n,), logarithm of the stake's multiple after each photograph.
        side: whether low or high ranks have gained the most in the end.
        start: the photograph, from 0, from which on that gain is the greatest, at each possible end (n,).
    """

    log_wealth: np.ndarray
    side: str
    start: np.ndarray


def rank_online(
    levels: np.ndarray, kinds: np.ndarray, before: np.ndarray, kinds_before: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """Rank each photograph's number among the earlier ones of its kind and itself, (n,), in 0..1; ties at random.

    Args:
        levels: (n,) whole numbers, in the order of time.
        kinds: (n,) numbers from 0: only photographs of one kind are compared.
        before: (m,) whole numbers of the photographs that came first, in any order.
        kinds_before: (m,), their kinds.
        draw: of the ranks among equal numbers.
    """
    half = N_LEVELS // 2
    now, early = (np.clip(x, -half, half - 1).astype(np.int64) + half for x in (levels, before))
    n_kinds = int(max([0, *kinds.tolist(), *kinds_before.tolist()])) + 1
    counts = np.zeros((n_kinds, N_LEVELS), np.int64)
    np.add.at(counts, (kinds_before, early), 1)
    total = counts.sum(1)
    chance, ranks = draw.random(len(levels)), np.empty(len(levels))
    for number, (level, kind) in enumerate(zip(now.tolist(), kinds.tolist(), strict=True)):
        own = counts[kind]
        own[level] += 1
        total[kind] += 1
        ranks[number] = (own[:level].sum() + chance[number] * own[level]) / total[kind]
    return ranks


def bet(ranks: np.ndarray, sides: Sequence[str]) -> Evidence:
    """Bet that from some photograph on ranks are low, or high; nobody needs to say from which.

    The stake is dealt to all photographs as possible beginnings, log 2 / (t log² t) about to the t-th, and to the
    powers; what waits for its beginning stays as it is. A sum of fair bets is fair.

    Args:
        ranks: (n,) in 0..1, in the order of time.
        sides: "low", "high", or both.
    """
    n, bets = len(ranks), [(side, power) for side in sides for power in POWERS]
    place = np.arange(1, n + 2)
    share = np.log(2) * (1 / np.log(place[:-1] + 1) - 1 / np.log(place[1:] + 1))  # of the stake, for each beginning
    waiting = np.log(2) / np.log(place[1:] + 1)
    log_share = np.log(share) - np.log(len(bets))
    tiny = np.finfo(np.float64).tiny
    gains = np.stack(
        [
            np.log(power) + (power - 1) * np.log(np.maximum(ranks if side == LOW else 1 - ranks, tiny))
            for side, power in bets
        ]
    )  # (n_bets, n)
    sums = np.concatenate([np.zeros((len(bets), 1)), gains.cumsum(1)], 1)
    begun = log_share - sums[:, :-1]  # log share of each beginning, over what was gained before it
    held = np.logaddexp.accumulate(begun, 1) + sums[:, 1:]
    log_wealth = np.logaddexp(np.logaddexp.reduce(held, 0), np.log(waiting))
    best = int(held[:, -1].argmax()) if n else 0
    lost = -sums[best, :-1]  # before each beginning; the gain since then is greatest where this is
    start = np.maximum.accumulate(np.where(lost >= np.maximum.accumulate(lost), np.arange(n), 0))
    return Evidence(log_wealth, bets[best][0], start)


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of several stakes' multiples, (n,): who bets on all of them shares the stake."""
    return np.logaddexp.reduce(np.stack(parts), 0) - np.log(len(parts))
