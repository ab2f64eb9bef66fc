"""What chance decides in the authors' SGD, drawn anew for each of thousands of episodes at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.methods.distances import prototypes
from fewshot.runtime import seeding
from fewshot.sampling.episodes import PADDING

N_PASSES = 100  # over the support set; CloserLookFewShot, methods/baselinefinetune.py
N_DIRECTIONS = 32  # two episodes share their draws only if their class means rank alike along all of them
RANKS = 1 << 20  # more than a class has
LAST = torch.iinfo(torch.int64).max

# SplitMix64: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, with the constants of
# Vigna's splitmix64.c. Numbers are unsigned there and int64 here, of the same 64 bits.
GAMMA, FACTOR_1, FACTOR_2 = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


@dataclass(frozen=True)
class Draws:
    """What chance decides in each of B episodes: the initial head and the order of samples."""

    weight: Tensor  # (B, n_way, D), uniform in ±1/√D, as nn.Linear begins
    bias: Tensor  # (B, n_way), likewise
    order: Tensor  # (B, N_PASSES, n_support) places in the support set, padding last


def draw(support: Tensor, labels: Tensor, n_way: int, seed: int) -> Draws:
    """Draw an initial head and the orders of samples for each episode.

    An episode draws from a generator of its own, whose key is a digest of `seed` and of the ranks of its class means
    along fixed directions (float64). So episodes draw independently of each other, and an episode draws the same in
    any batch, order of support, numbering of classes and padding, on any device, and from features that differ by
    rounding, unless two means tie. Features themselves are not hashed: their last bits differ between CPUs. (Features
    of a bfloat16 backbone differ by more on another machine, where about half of its 5-way episodes draw anew.)

    A class takes the row of the head, and an image the place in the orders, of its rank along the first direction
    (ties: by class).

    Args:
        support: features (B, n_support, D).
        labels: (B, n_support), 0..n_way-1, or -1 for padding.
        n_way: number of classes.
        seed: of the draws; another one draws every episode anew.
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
    """Fixed directions (width, N_DIRECTIONS), float64."""
    place = torch.arange(width * N_DIRECTIONS // 2, device=device)  # of two numbers each
    return _to_uniform(_draw_bits(place), torch.float64).view(width, N_DIRECTIONS)


def _digest_ranks(ranks: Tensor, present: Tensor) -> Tensor:
    """Digest (B,) of the ranks (B, n_way, N_DIRECTIONS) of the classes that are `present` (B, n_way).

    Classes are told apart by their rank along the first direction, so the digest does not depend on their numbering.
    """
    direction = torch.arange(N_DIRECTIONS, device=ranks.device)
    of_class = (ranks[..., :1] * N_DIRECTIONS + direction) * RANKS + ranks  # no two (class, direction, rank) are alike
    return _draw_bits(of_class).masked_fill(~present[..., None], 0).sum((1, 2))


def _draw_rows(keys: Tensor, ranks: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Weights and biases (B, n_way, width + 1) of new heads, from keys (B,) and ranks of classes (B, n_way)."""
    n_draws = width // 2 + 1  # of two numbers each
    place = ranks[..., None] * n_draws + torch.arange(n_draws, device=keys.device)  # (B, n_way, n_draws)
    return _to_uniform(_draw_bits(place, keys[:, None, None]), dtype)[..., : width + 1] * width**-0.5


def _draw_orders(keys: Tensor, counts: Tensor, n_support: int) -> Tensor:
    """Random orders (B, N_PASSES, n_support) of ranks 0 .. count-1, higher ranks behind them, from keys (B,)."""
    rank = torch.arange(n_support, device=keys.device)
    place = torch.arange(N_PASSES, device=keys.device)[:, None] + rank * N_PASSES  # the same with more padding
    unused = rank >= counts[:, None, None]
    return _draw_bits(place, keys[:, None, None]).masked_fill(unused, LAST).argsort(dim=-1, stable=True)


def _draw_bits(place: Tensor, key: Tensor | int = 0) -> Tensor:
    """64 random bits (int64) for each `place`: what SplitMix64 that starts from `key` gives there."""
    bits = place * GAMMA + key
    for shift, factor in ((30, FACTOR_1), (27, FACTOR_2), (31, 1)):
        bits ^= (bits >> shift) & ((1 << 64 - shift) - 1)  # the sign is no bit to fill up with
        bits *= factor
    return bits


def _to_uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform numbers in ±1, (..., 2 n), from random bits (..., n)."""
    return (bits.view(torch.int32).to(dtype) + 0.5) * 2.0**-31
