"""A backbone on several views of an image: rotations, the circle of a coin, and cues of its colours and size."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.backbones.base import Backbone
from fewshot.backbones.cues import compute_cues, count_colours
from fewshot.errors import ConfigError, FewShotError
from fewshot.images.circles import Circles, cut_circles, disc, find_circles
from fewshot.runtime.evaluation_mode import evaluating

GLOBAL_TURNS = 8  # with `rings` and at least twice as many turns, only some views pass the whole backbone
AROUND_A_CIRCLE = 1.25  # images should be larger than the views by this factor, since a view shows only the circle
PIXELS_AT_ONCE = 2 * 224**2


class _StopForward(Exception):
    """Stops the forward pass after the hooked layer."""


class Viewed(nn.Module):
    """Computes features of several views of each image: their mean, scaled to unit length, followed by cues.

    With `rings`, local features come last, for methods that compare images place by place (`aligned`): of each rotated
    view the cells from the top of the rim to the middle, so together the cells in all directions. All cells have equal
    length, together length 1. With 16 turns or more only every second, third, … view passes the rest of the backbone
    for the mean, 8 to 15 views. There are no feature maps.

    Args:
        source: the backbone.
        turns: number of views, rotated by equal angles over the full circle, so that features hardly depend on the
            orientation of the object. Outside the inscribed disc a view is grey (the backbone's mean colour).
        find_circle: whether to find the round object first, so that it fills the views (`fewshot.images.circles`).
        zooms: sizes relative to the image or circle; each view is made once for each of them.
        colour: weight of the colour cue (0: none). The cue has the logarithms of the median colours on 12 rings of
            the circle that was found, or without `find_circle` of the one that fills the picture, in units of 0.2:
            relative to their mean; red and blue relative to green; and the latter relative to the background, which
            largely cancels coloured light (36 + 24 + 24 numbers, each part of length about 1).
        radius: weight of the size cue (0: none); needs `find_circle`. The cue is the logarithm of the circle's radius
            as a fraction of the image, in units of 0.1: it is informative only if all images have one scale.
        rings: name of a layer of the body whose maps give local features (default: no local features).

    Attributes:
        layout: shape of the local features, (turns, cells from rim to middle, channels), or None.
        cues: how many numbers the colour and the size cue have.
        image_px: recommended side of the images, more than `input_px` if a circle is to be found.

    Raises:
        ConfigError: for impossible options.
    """

    def __init__(
        self,
        source: Backbone,
        turns: int = 1,
        find_circle: bool = False,
        zooms: Sequence[float] = (1.0,),
        colour: float = 0.0,
        radius: float = 0.0,
        rings: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(turns, int) or turns < 1:
            raise ConfigError(f"views: turns is a number of views, at least 1, got {turns!r}")
        if not zooms or not all(zoom > 0 for zoom in zooms):
            raise ConfigError(f"views: zooms are positive sizes, at least one, got {list(zooms)}")
        if min(colour, radius) < 0 or (radius and not find_circle):
            raise ConfigError(f"views: colour={colour} and radius={radius} are weights, not negative; radius is of a "
                              "circle that is found: only with find_circle=True")  # fmt: skip
        self.source, self.turns, self.find_circle, self.zooms = source, turns, find_circle, tuple(zooms)
        self.colour, self.radius = colour, radius
        self.in_channels, self.input_px, self.mean, self.std = (
            source.in_channels, source.input_px, source.mean, source.std,
        )  # fmt: skip
        self.image_px = round(AROUND_A_CIRCLE * source.input_px) if find_circle else source.input_px
        self.rings, self.layout = rings, None
        if rings is not None:
            self.layout = self._find_layout()
        self.cues = (count_colours(source.in_channels) if colour else 0, 1 if radius else 0)
        self.feature_dim = source.feature_dim + sum(self.cues) + math.prod(self.layout or (0,))

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (n, feature_dim) of images (n, C, side, side) uint8."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise FewShotError(f"views are made of square uint8 images, got {images.dtype} {tuple(images.shape)}")
        images = images.expand(-1, self.in_channels, -1, -1)  # grey is repeated
        with torch.autocast(images.device.type, enabled=False):
            circles = find_circles(images) if self.find_circle else None
        features = []
        with self._listen() as maps:
            for number, view in enumerate(self._make_views(images, circles)):
                if self.rings and number % self._stride:
                    self._run_to_layer(view)
                else:
                    features.append(self.source(view))
        return self._join(torch.stack(features), maps, images, circles)

    def forward_at_once(self, images: Tensor) -> Tensor:
        """Compute the same features for graphs that are traced: few large steps, and views in batches.

        Args:
            images: (n, C, side, side) uint8.

        Returns:
            Features (n, feature_dim).
        """
        images = images.expand(-1, self.in_channels, -1, -1)
        circles = find_circles(images, at_once=True) if self.find_circle else None
        views = list(self._make_views(images, circles))
        stride = self._stride if self.rings else 1
        whole = _split([n for n in range(len(views)) if n % stride == 0], self.input_px)
        rest = _split([n for n in range(len(views)) if n % stride], self.input_px)
        with self._listen() as maps:
            features = [
                self.source(torch.cat([views[n] for n in part])).unflatten(0, (len(part), -1)) for part in whole
            ]
            for part in rest:
                self.source(torch.cat([views[n] for n in part]))
        if self.rings:
            by_place = torch.cat([part.unflatten(0, (-1, images.shape[0])) for part in maps])  # (n_views, n, c, h, w)
            places = {number: place for place, number in enumerate(n for part in (*whole, *rest) for n in part)}
            maps = [by_place[places[number]] for number in range(len(views))]
        return self._join(torch.cat(features), maps, images, circles)

    def _join(self, features: Tensor, maps: list[Tensor], images: Tensor, circles: Circles | None) -> Tensor:
        """The feature of each image, of those of its views (n_views, n, source.feature_dim) and its maps."""
        features = F.normalize(features.float().mean(0), dim=-1)  # (n, source.feature_dim)
        cues = compute_cues(images, circles or _cover_whole(images), self.colour, self.radius)
        local = [self._compute_local(maps)] if self.rings else []
        return torch.cat([features, *cues, *local], 1)

    @property
    def _stride(self) -> int:
        """With `rings`: of so many views one goes through the backbone to its end."""
        return max(1, self.turns // GLOBAL_TURNS)

    def extra_repr(self) -> str:
        """Describe what decides the features besides the backbone."""
        names = ("turns", "find_circle", "zooms", "colour", "radius", "rings")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def _make_views(self, images: Tensor, circles: Circles | None) -> Iterator[Tensor]:
        """Yield the views, prepared (n, in_channels, input_px, input_px), or just the images if nothing changes."""
        if circles is None and self.zooms == (1.0,) and self.turns == 1:
            yield images
            return
        mean, std = (torch.tensor(x, device=images.device).view(-1, 1, 1) for x in (self.mean, self.std))
        inside = 1.0 if circles is None and self.turns == 1 else disc(self.input_px, images.device)  # 0 is the mean
        around = circles or _cover_whole(images)
        for zoom in self.zooms:
            for turn in range(self.turns):
                circle = around._replace(radius=around.radius * zoom)
                view = cut_circles(images, circle, self.input_px, 2 * math.pi * turn / self.turns)
                prepared = (view / 255 - mean) / std * inside
                yield prepared.contiguous(memory_format=torch.channels_last)

    def _run_to_layer(self, view: Tensor) -> None:
        """Run the source on `view` up to the layer `rings`, whose maps a hook of `_listen` collects."""
        thread = get_ident()

        def stop(*_: object) -> None:
            if get_ident() == thread:  # another thread may need its full pass
                raise _StopForward

        hook = self._find_layer().register_forward_hook(stop)  # it is called after the existing hooks
        try:
            self.source(view)
        except _StopForward:
            pass
        finally:
            hook.remove()

    def _compute_local(self, maps: list[Tensor]) -> Tensor:
        """Compute local features (n, turns * cells * channels) from the maps of each turn."""
        cells = torch.stack([_take_rim_to_middle(m) for m in maps], 1)
        return (F.normalize(cells, dim=-1) / math.prod(cells.shape[1:3]) ** 0.5).flatten(1)

    def _find_layout(self) -> tuple[int, int, int]:
        """Find the shape of the local features; raises `ConfigError` if `rings` is no suitable layer."""
        if len(self.zooms) > 1:
            raise ConfigError(f"views: rings are of one size of view, got zooms={list(self.zooms)}")
        with evaluating(self.source), torch.no_grad(), self._listen() as maps:
            self.source(torch.zeros(1, self.in_channels, self.input_px, self.input_px, dtype=torch.uint8))
        if len(maps) != 1 or maps[0].ndim != 4:
            raise ConfigError(f"views: rings={self.rings!r} is no layer that gives one map (n, c, h, w) of an image")
        return self.turns, *_take_rim_to_middle(maps[0]).shape[1:]

    @contextmanager
    def _listen(self) -> Iterator[list[Tensor]]:
        """Within the block the outputs of the layer `rings` are appended to the list."""
        maps: list[Tensor] = []
        thread = get_ident()

        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            if get_ident() == thread:  # other threads have lists of their own
                maps.append(output)

        hook = self._find_layer().register_forward_hook(keep) if self.rings else None
        try:
            yield maps
        finally:
            if hook is not None:
                hook.remove()

    def _find_layer(self) -> nn.Module:
        layers = dict(self.source.body.named_modules())
        found = [name for name in layers if name == self.rings or name.endswith(f".{self.rings}")]
        if len(found) != 1:
            known = ", ".join(name for name, layer in layers.items() if name and not name.count(".") > 2)
            raise ConfigError(f"views: rings={self.rings!r} names {len(found)} layers; among all: {known[:500]}")
        return layers[found[0]]


def _split(numbers: list[int], side_px: int) -> list[list[int]]:
    """Views that go through a traced network together: more would take more memory, fewer more nodes."""
    size = max(1, PIXELS_AT_ONCE // side_px**2)
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _take_rim_to_middle(maps: Tensor) -> Tensor:
    """Take the upper half of the middle column, (n, cells, c), from maps (n, c, h, w)."""
    height, width = maps.shape[2:]
    return maps[..., : (height + 1) // 2, width // 2].movedim(1, 2).float()


def _cover_whole(images: Tensor) -> Circles:
    middle = torch.zeros(images.shape[0], device=images.device)
    return Circles(middle, middle, middle + 1)
