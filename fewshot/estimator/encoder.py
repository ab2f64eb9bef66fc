"""Turns pixels into what the method classifies: features, or the pixels themselves if the method adapts weights."""

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones import Viewed
from fewshot.backbones.surgery.fold_batchnorm import fold_batchnorm
from fewshot.config.classifier import ClassifierOptions
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.estimator.building import Plan, build_method
from fewshot.estimator.reading import ImageBatch, Reader
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import choose_device
from fewshot.methods import Method
from fewshot.methods.inner_loop.descent import InnerLoopMethod
from fewshot.runtime import seeding
from fewshot.runtime.devices import find_device
from fewshot.runtime.layout import keep_channels_last
from fewshot.runtime.precision import Precision


class Encoder:
    """A method on its device, with the reader of its images.

    `plan`: the options from which the method was built. `reader`: reads images in the backbone's format, or passes
    features on if there is no backbone.
    """

    def __init__(self, method: Method, plan: Plan) -> None:
        asked = plan.options
        self.method, self.plan = method, plan
        self.precision: Precision = asked.precision
        self.device = find_device(asked.device) if asked.device else choose_device()
        self.method.to(self.device)
        if method.backbone is not None and asked.size_px not in (None, method.backbone.input_px):
            raise ConfigError(f"size_px={asked.size_px}, but this backbone takes {method.backbone.input_px} px images")
        self.reader = _create_reader(method, asked)

    @classmethod
    def create(cls, asked: ClassifierOptions) -> Self:
        """Build the method that the options name; raises `ConfigError` if they contradict each other."""
        return cls(*build_method(asked))

    def check_n_classes(self, n_classes: int) -> None:
        """Raise `FewShotError` if the method was trained for fewer classes: asked before any image is read."""
        if isinstance(self.method, InnerLoopMethod):
            self.method.find_present_classes(torch.zeros(1, 0, dtype=torch.int64), n_classes)

    def encode(self, images: Sequence[Any]) -> list[ImageBatch]:
        """Read images, or take features, and replace the pixels of each batch by what the method classifies.

        Only two batches of pixels are in memory at a time. Raises `DataError` if images cannot be read.
        """
        batches = self.reader.read_batches(images)
        return [batch._replace(values=self.compute_content(batch.values)) for batch in batches]

    def compute_content(self, values: Tensor) -> Tensor:
        """Compute what the method classifies, on the CPU.

        For pixels (n, C, size_px, size_px) uint8 these are features (n, D), or the pixels if the method adapts
        weights; given features stay as they are.
        """
        if self.method.backbone is None or not self.method.uses_features:
            return values
        images = ImageSet(values, np.zeros(len(values), np.int64), ["any"])
        return embed(self.network, images, precision=self.precision).values.float().cpu()

    @cached_property
    def network(self) -> Method:
        """A copy of the method for inference: batch norm folded into convolutions, weights channels-last.

        It is made once, since the weights do not change. A copy, because threads share it while `save` writes the
        method's own weights.
        """
        network = copy.deepcopy(self.method)
        owner, name = (network.backbone, "source") if isinstance(network.backbone, Viewed) else (network, "backbone")
        source = getattr(owner, name)  # one view is enough to fold by
        shape = (1, source.in_channels, source.input_px, source.input_px)
        example = torch.randint(256, shape, dtype=torch.uint8, generator=seeding.generator(0, "an image to fold by"))
        setattr(owner, name, fold_batchnorm(source, example.to(self.device)))
        keep_channels_last(network)
        return network


def _create_reader(method: Method, options: ClassifierOptions) -> Reader:
    backbone = method.backbone
    if backbone is None:
        return Reader(0, 0, "pad")
    return Reader(backbone.in_channels, getattr(backbone, "image_px", backbone.input_px), options.resize)
