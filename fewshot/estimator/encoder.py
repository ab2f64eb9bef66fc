"""From what a user hands over to what the method classifies: features, or images of the backbone's size."""

import copy
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.backbones.surgery.folded import folded
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError, DataError, LeakageError
from fewshot.estimator.building import Plan, build_method
from fewshot.estimator.parameters import Asked
from fewshot.estimator.reading import as_list, in_chunks, name_of, read_images
from fewshot.estimator.support import Support, as_groups
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import choose_device
from fewshot.experiments.starting import training_sets
from fewshot.images.imageset import image_digests
from fewshot.methods import Method
from fewshot.runtime import seeding
from fewshot.runtime.layout import keep_channels_last
from fewshot.runtime.precision import autocast
from fewshot.training.leakage import find_seen_images

THUMBNAIL_PX = 64
QUERIES_AT_ONCE = 4096
logger = logging.getLogger(__name__)
_adapting = Lock()  # methods that adapt weights swap those of a shared network: one thread at a time


class Fitted:
    """A method fitted to a support set of content (n, …) and `labels` (n,) on the method's device.

    `adapted`: what a method that adapts weights has made of them, else None.
    """

    def __init__(self, inputs: "Inputs", content: Tensor, labels: Tensor, n_classes: int, adapted: Any = None) -> None:
        self.inputs, self.content, self.labels, self.n_classes = inputs, content, labels, n_classes
        self.adapted = adapted

    @property
    def state(self) -> dict[str, Tensor] | None:
        """Tensors that the fit has changed, for methods that adapt weights, else None."""
        return None if self.adapted is None else self.adapted.state

    @torch.no_grad()
    def logits(self, queries: Tensor) -> Tensor:
        """Logits (n, n_classes) of content (n, …), on the CPU."""
        method, device = self.inputs.method, self.inputs.device
        precision = "float32" if method.uses_features else self.inputs.precision
        with autocast(precision, device), nullcontext() if method.uses_features else _adapting:
            parts = [self._logits(part.to(device)).float().cpu() for part in queries.split(QUERIES_AT_ONCE)]
        return torch.cat(parts)

    def _logits(self, queries: Tensor) -> Tensor:
        if self.adapted is not None:
            return self.adapted.logits(queries)
        method = self.inputs.method
        classify = method.head if method.uses_features else method
        return classify(self.content[None], self.labels[None], queries[None], self.n_classes)[0]


class Inputs:
    """The method of an estimator, its device, and how images become its input."""

    def __init__(self, asked: Asked, built: tuple[Method, Plan] | None = None) -> None:
        self.method, self.plan = built or build_method(asked)
        self.device = torch.device(asked.device) if asked.device else choose_device()
        self.method.to(self.device)
        self.precision, self.resize, self.run_dir = asked.precision, asked.resize, asked.run_dir
        backbone = self.method.backbone
        self.channels, self.size_px = 0, 0
        if backbone is not None:
            self.channels, self.size_px = backbone.in_channels, getattr(backbone, "image_px", backbone.input_px)
            if asked.size_px not in (None, backbone.input_px):
                raise ConfigError(f"size_px={asked.size_px}, but this backbone sees {backbone.input_px} pixels")

    @property
    def of_images(self) -> bool:
        return self.method.backbone is not None

    def listed(self, images: Any) -> Sequence[Any]:
        """Images one by one; features as they are."""
        return as_list(images) if self.of_images else images

    def support(self, images: Sequence[Any], labels: np.ndarray, groups: Sequence[Any] | None) -> Support:
        """The support set of `images` (n) and `labels` (n,)."""
        names = tuple(name_of(image, number) for number, image in enumerate(images))
        if not self.of_images:
            return Support(_features(images), labels, as_groups(groups), names).checked()
        contents, digests, thumbnails = [], [], []
        for _, pixels in in_chunks(images, self.read):
            contents.append(self.content(pixels))
            digests.append(image_digests(pixels.numpy()))
            small = F.interpolate(pixels.float(), (THUMBNAIL_PX, THUMBNAIL_PX), mode="bilinear", antialias=True)
            thumbnails.append(small.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1))
        parts = (torch.cat(contents), labels, as_groups(groups), names)
        support = Support(*parts, np.concatenate(digests), torch.cat(thumbnails)).checked()
        self._warn_of_training_images(support.digests)
        return support

    def _warn_of_training_images(self, digests: np.ndarray) -> None:
        """Say so where images with these digests (n, 8) are among those that the run's network was trained on."""
        if self.run_dir is None:
            return
        try:
            trained = training_sets(self.run_dir)
        except LeakageError:  # the classifier came from a file, and the run is gone
            return
        n_seen = int(find_seen_images(trained, digests).sum())
        if n_seen:
            logger.warning(
                "%d of %d images were trained on by %s: what is estimated from them does not hold for new images",
                n_seen, len(digests), self.run_dir,
            )  # fmt: skip

    def encoded(self, images: Any) -> Tensor:
        """What the method classifies of `images`, (n, …), on the CPU."""
        images = self.listed(images)
        if not self.of_images:
            return _features(images)
        contents = [self.content(pixels) for _, pixels in in_chunks(images, self.read)]
        if not contents:
            raise DataError("there is no image to classify: the list is empty")
        return torch.cat(contents)

    def fitted(self, support: Support, n_classes: int, state: dict[str, Tensor] | None = None) -> Fitted:
        """The method fitted to a support set; `state`: of an earlier fit to the same one, which is taken up again."""
        labels = torch.from_numpy(support.labels).to(self.device)
        content = support.content.to(self.device)
        if not hasattr(self.method, "fit_support"):
            return Fitted(self, content, labels, n_classes)
        if state is not None:
            return Fitted(self, content, labels, n_classes, self.method.restored(state, n_classes))
        with autocast(self.precision, self.device):
            adapted = self.method.fit_support(content, labels, n_classes, support.independent)
        return Fitted(self, content, labels, n_classes, adapted)

    def read(self, images: Sequence[Any], first: int) -> tuple[Tensor, dict[int, str]]:
        """Pixels, and what is wrong with bad images, see `read_images`."""
        return read_images(images, self.size_px, self.channels, self.resize, first)

    def content(self, pixels: Tensor) -> Tensor:
        """What the method classifies of pixels (n, C, size_px, size_px) uint8, on the CPU."""
        if not self.method.uses_features:
            return pixels
        images = ImageSet(pixels, np.zeros(len(pixels), np.int64), ["any"])
        return embed(self.encoder, images, precision=self.precision).values.float().cpu()

    @cached_property
    def encoder(self) -> Method:
        """The method, its backbone made for inference; made once, as weights stay as they are.

        A copy, channels-last for good: threads may share it, and the method's own weights are saved as they were.
        """
        side = (1, self.channels, self.size_px, self.size_px)
        example = torch.randint(256, side, dtype=torch.uint8, generator=seeding.generator(0, "an image to fold by"))
        encoder = copy.deepcopy(self.method)
        encoder.backbone = folded(encoder.backbone, example.to(self.device))
        keep_channels_last(encoder)
        return encoder


def _features(features: Any) -> Tensor:
    return torch.from_numpy(np.asarray(features, np.float32))
