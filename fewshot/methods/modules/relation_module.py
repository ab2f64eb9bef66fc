"""The network of Relation Network that scores pairs of feature maps."""

import itertools
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.methods.inner_loop.episode_statistics import episode_statistics


class RelationModule(nn.Module):
    """Scores all pairs of a class map and a query map; the scores are logits of a sigmoid.

    As the authors do, it applies two blocks of a 3x3 convolution, batch normalisation, ReLU and 2x2 max-pooling on
    the concatenated maps, then a linear layer to `n_hidden`, ReLU, and one to a score. Convolutions
    are not padded on maps of at least 10 x 10 (19 -> 17 -> 8 -> 6 -> 3 for 84 px images), else by one
    pixel (5 -> 2 -> 1 for 28 px); a map of side 1 is not pooled further. Their initial values:
    convolutions N(0, 2 / (9 n_filters)), linear layers N(0, 0.01²) with biases of 1.

    Three changes make it faster without changing the function, up to rounding. The first convolution is linear in the
    concatenation, so it runs once on each map instead of each pair, and the results are added. The statistics of its
    batch normalisation are known before the addition (running statistics, or those of an episode's pairs, see
    `pair_moments`), so the summands are normalised instead of the sums. Pooling precedes ReLU, which is monotone.
    Differs from the authors': convolutions have no bias, which batch normalisation would cancel; running statistics
    have momentum 0.1, where theirs are those of the last batch.

    Args:
        channels: of the backbone's maps.
        side_px: side of the backbone's maps, which are square.
        n_filters: filters of each convolution.
        n_hidden: number of hidden units between the two linear layers.
    """

    def __init__(self, channels: int, side_px: int, n_filters: int = 64, n_hidden: int = 8) -> None:
        super().__init__()
        padding = 0 if side_px >= 10 else 1
        self.blocks, n_inputs = nn.ModuleList(), 2 * channels
        for _ in range(2):
            side_px -= 2 * (1 - padding)
            pool = nn.MaxPool2d(2) if side_px > 1 else nn.Identity()
            side_px = max(1, side_px // 2)
            self.blocks.append(RelationBlock(n_inputs, n_filters, padding, pool))
            n_inputs = n_filters
        self.linear = nn.Sequential(nn.Linear(n_filters * side_px**2, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 1))
        for layer in (self.linear[0], self.linear[2]):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.ones_(layer.bias)

    def forward(self, classes: Tensor, query: Tensor, counted: tuple[Tensor, Tensor | None] | None = None) -> Tensor:
        """Compute scores (B, n_query, n_way) of `classes` (B, n_way, c, h, w) and `query` (B, n_query, c, h, w).

        `counted`: masks (B, n_way) and (B, n_query) of the classes and queries (None: all queries) from whose pairs
        each episode's batch statistics are computed, in training and evaluation. Without it the mode of the module
        decides.
        """
        first, second = self.blocks
        convolve = partial(F.conv2d, padding=first.conv.padding)
        parts = [  # the concatenation is [class, query]
            convolve(maps.flatten(0, 1), half).unflatten(0, maps.shape[:2])
            for maps, half in zip((classes, query), first.conv.weight.chunk(2, 1), strict=True)
        ]
        pooled = isinstance(first.pool, nn.MaxPool2d)
        if counted is not None:
            maps = pool_sums(*first.normalise(*parts, *pair_moments(*parts, *counted)), pooled).relu()
            of_classes, of_queries = counted
            pairs = of_classes[:, None].expand(-1, query.shape[1], -1)  # (B, n_query, n_way)
            pairs = (pairs if of_queries is None else pairs & of_queries[..., None]).flatten(1)
            with episode_statistics(second, *pairs.shape, pairs):
                maps = second.finish(second.conv(maps))
        elif self.training:  # statistics of all pairs of the batch, which update the running ones
            pairs = parts[1][:, :, None] + parts[0][:, None]  # (B, n_query, n_way, n_filters, h, w)
            maps = second.finish(second.conv(first.finish(pairs.flatten(0, 2))))
        else:
            maps = pool_sums(*first.normalise(*parts, *first.running), pooled).relu()
            maps = second.pool(second.convolve(maps)).relu()
        return self.linear(maps.flatten(1)).view(*query.shape[:2], classes.shape[1])


class RelationBlock(nn.Module):
    """A 3x3 convolution, batch normalisation, pooling and ReLU, which can be called separately."""

    def __init__(self, n_inputs: int, n_filters: int, padding: int, pool: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_inputs, n_filters, 3, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(n_filters)
        self.pool = pool
        nn.init.normal_(self.conv.weight, 0, (2 / (9 * n_filters)) ** 0.5)

    def finish(self, maps: Tensor) -> Tensor:
        """Apply what follows the convolution: (n, n_filters, h, w) to (n, n_filters, h / 2, w / 2)."""
        return self.pool(self.norm(maps)).relu()

    def convolve(self, maps: Tensor) -> Tensor:
        """Apply convolution and batch normalisation by running statistics in one step."""
        scale = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)  # (n_filters,)
        weight, bias = self.conv.weight * scale[:, None, None, None], self.norm.bias - self.norm.running_mean * scale
        return F.conv2d(maps, weight, bias, padding=self.conv.padding)

    @property
    def running(self) -> tuple[Tensor, Tensor]:
        """Running mean and variance, (1, n_filters) each."""
        return self.norm.running_mean[None], self.norm.running_var[None]

    def normalise(self, first: Tensor, second: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise two summands (B, n, n_filters, h, w) whose sums have `mean` and `variance` (B or 1, n_filters)."""
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        shift = self.norm.bias - mean * scale
        scale, shift = scale[:, None, :, None, None], shift[:, None, :, None, None]
        return first * scale + shift, second * scale


def pair_moments(
    first: Tensor, second: Tensor, of_first: Tensor | None, of_second: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance (B, C) of all first_i + second_j, over positions and the counted i and j.

    `first` (B, n, C, h, w), `second` (B, m, C, h, w); `of_first` (B, n) and `of_second` (B, m) bool mark what counts;
    None: all. The sums are not formed: at each position the variances of both add up, and the variance of the means
        over
    positions is added.
    """
    means, spreads = zip(*(_moments(*pair) for pair in ((first, of_first), (second, of_second))), strict=True)
    mean, spread = sum(means), sum(spreads)  # (B, C, h, w) each
    overall = mean.mean((2, 3), keepdim=True)
    return overall.flatten(1), (spread + (mean - overall).square()).mean((2, 3))


def _moments(maps: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance (B, C, h, w) of the maps (B, n, C, h, w) that are `counted` (B, n)."""
    if counted is None:
        mean = maps.mean(1)
        return mean, (maps - mean[:, None]).square().mean(1)
    share = (counted / counted.sum(1, keepdim=True)).to(maps.dtype)[..., None, None, None]
    mean = (maps * share).sum(1)
    return mean, ((maps - mean[:, None]).square() * share).sum(1)


def pool_sums(first: Tensor, second: Tensor, pooled: bool = True) -> Tensor:
    """Compute all second_j + first_i with 2x2 max-pooling (if `pooled`): (B * m * n, C, h / 2, w / 2), channels-last.

    `first` (B, n, C, h, w), `second` (B, m, C, h, w). The sums at the four positions of a tile are computed one after
    the other, so that no sum is stored in full size.
    """
    step = 2 if pooled else 1
    height, width = (side // step * step for side in first.shape[3:])
    best = None
    for row, column in itertools.product(range(step), repeat=2):
        corners = (maps[..., row:height:step, column:width:step].movedim(2, 4).contiguous() for maps in (first, second))
        one, other = corners  # (B, n or m, h / 2, w / 2, C)
        sums = other[:, :, None] + one[:, None]  # (B, m, n, h / 2, w / 2, C)
        best = sums if best is None else torch.maximum(best, sums)
    return best.flatten(0, 2).movedim(3, 1)
