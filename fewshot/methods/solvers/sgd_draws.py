"""The random initial heads and sample orders of the authors' SGD, for thousands of episodes at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.methods.distances import prototypes
from fewshot.runtime import seeding
from fewshot.sampling.episodes import PADDING

N_PASSES = 100  # over the support set; CloserLookFewShot, methods/baselinefinetune.py
N_DIRECTIONS = 32  # episodes share draws only if their class means have the same ranks along all directions
RANKS = 1 << 20  # more than any rank
LAST = torch.iinfo(torch.int64).max

# SplitMix64: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, with the constants of
# Vigna's splitmix64.c. Numbers are unsigned there, and int64 with the same 64 bits here.
GAMMA, FACTOR_1, FACTOR_2 = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


@dataclass(frozen=True)
class Draws:
    """The random choices of B episodes: the initial head and the order of samples."""

    weight: Tensor  # (B, n_way, D), uniform in ±1/√D, as nn.Linear initialises
    bias: Tensor  # (B, n_way), likewise
    order: Tensor  # (B, N_PASSES, n_support) positions in the support set, padding last


def draw(support: Tensor, labels: Tensor, n_way: int, seed: int) -> Draws:
    """Draw an initial head and the orders of samples for each episode.

    Each episode has its own generator, whose key is a digest of `seed` and of the ranks of its class means along fixed
    directions (float64). So the draws of different episodes are independent, and those of an episode are the same in
    any batch, order of support, numbering of classes and padding, on any device, and for features that differ by
    rounding, unless two means tie. Features themselves are not hashed: their last bits differ between CPUs. (The
    bfloat16 features of another machine differ by more; then about half of the 5-way episodes have other draws.)

    The rank of a class along the first direction decides its row of the head, and that of an image its position in the
    orders (ties are broken by class).

    Args:
        support: features (B, n_support, D).
        labels: (B, n_support), 0..n_way-1, or -1 for padding.
        n_way: number of classes.
        seed: seed of the draws.
    """
    n_support, width = support.shape[1:]
    places = support.double() @ _fix_directions(width, support.device)  # (B, n_support, N_DIRECTIONS)
    means, present = prototypes(places, labels, n_way)
    means = means.masked_fill(~present[..., None], torch.inf)
    ranks = means.argsort(dim=1, stable=True).argsort(dim=1)  # (B, n_way, N_DIRECTIONS)
    digest, first = _digest_ranks(ranks, present), ranks[..., 0]
    rows = _draw_rows(_draw_bits(digest, seeding.derive(seed, "sgd head")), first, width, support.dtype)

    real = labels != PADDING
    by_class = first.gather(1, labels.clamp_min(0)).argsort(dim=1, stable=True)
    keys = places[..., 0].masked_fill(~real, torch.inf).gather(1, by_class)
    ranked = by_class.gather(1, keys.argsort(dim=1, stable=True))  # (B, n_support): the image of each rank
    orders = _draw_orders(_draw_bits(digest, seeding.derive(seed, "sgd order")), real.sum(1), n_support)
    return Draws(rows[..., :-1], rows[..., -1], ranked[:, None].expand_as(orders).gather(2, orders))


def _fix_directions(width: int, device: torch.device) -> Tensor:
    """Make the fixed directions (width, N_DIRECTIONS), float64."""
    place = torch.arange(width * N_DIRECTIONS // 2, device=device)  # of two numbers each
    return _to_uniform(_draw_bits(place), torch.float64).view(width, N_DIRECTIONS)


def _digest_ranks(ranks: Tensor, present: Tensor) -> Tensor:
    """Compute a hash (B,) of the ranks (B, n_way, N_DIRECTIONS) of the classes that are `present` (B, n_way).

    Classes are identified by their rank along the first direction, so the hash does not depend on their numbering.
    """
    direction = torch.arange(N_DIRECTIONS, device=ranks.device)
    of_class = (ranks[..., :1] * N_DIRECTIONS + direction) * RANKS + ranks  # no two (class, direction, rank) are alike
    return _draw_bits(of_class).masked_fill(~present[..., None], 0).sum((1, 2))


def _draw_rows(keys: Tensor, ranks: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Draw weights and biases (B, n_way, width + 1) of heads, from keys (B,) and ranks of classes (B, n_way)."""
    n_draws = width // 2 + 1  # of two numbers each
    place = ranks[..., None] * n_draws + torch.arange(n_draws, device=keys.device)  # (B, n_way, n_draws)
    return _to_uniform(_draw_bits(place, keys[:, None, None]), dtype)[..., : width + 1] * width**-0.5


def _draw_orders(keys: Tensor, counts: Tensor, n_support: int) -> Tensor:
    """Draw random orders (B, N_PASSES, n_support) of ranks 0 .. count-1, followed by higher ranks, from keys (B,)."""
    rank = torch.arange(n_support, device=keys.device)
    place = torch.arange(N_PASSES, device=keys.device)[:, None] + rank * N_PASSES  # independent of padding
    unused = rank >= counts[:, None, None]
    return _draw_bits(place, keys[:, None, None]).masked_fill(unused, LAST).argsort(dim=-1, stable=True)


def _draw_bits(place: Tensor, key: Tensor | int = 0) -> Tensor:
    """Draw 64 random bits (int64) for each `place`: the output of SplitMix64 there, started from `key`."""
    bits = place * GAMMA + key
    for shift, factor in ((30, FACTOR_1), (27, FACTOR_2), (31, 1)):
        bits ^= (bits >> shift) & ((1 << 64 - shift) - 1)  # a logical shift: it must not fill with the sign
        bits *= factor
    return bits


def _to_uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert random bits (..., n) to uniform numbers in ±1, (..., 2 n)."""
    return (bits.view(torch.int32).to(dtype) + 0.5) * 2.0**-31
