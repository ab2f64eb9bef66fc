"""What was read becomes what the method classifies: features, or for methods that adapt weights the pixels."""

import copy
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.backbones.surgery.fold_batchnorm import fold_batchnorm
from fewshot.config.classifier import ClassifierOptions
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.estimator.building import Plan, build_method
from fewshot.estimator.reading import Read, Reader
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import choose_device
from fewshot.methods import Method
from fewshot.methods.inner_loop.descent import InnerLoopMethod
from fewshot.runtime import seeding
from fewshot.runtime.layout import keep_channels_last
from fewshot.runtime.precision import Precision


class Encoder:
    """The method of an estimator on its device: `plan` says what it is made of."""

    def __init__(self, method: Method, plan: Plan) -> None:
        asked = plan.options
        self.method, self.plan = method, plan
        self.precision: Precision = asked.precision
        self.device = torch.device(asked.device) if asked.device else choose_device()
        self.method.to(self.device)
        if method.backbone is not None and asked.size_px not in (None, method.backbone.input_px):
            message = f"size_px={asked.size_px}, but this backbone sees {method.backbone.input_px} pixels"
            raise ConfigError(message)

    @classmethod
    def create(cls, asked: ClassifierOptions) -> Self:
        """Of the method that is asked for; raises `ConfigError` for one that makes no sense."""
        return cls(*build_method(asked))

    def check_n_classes(self, n_classes: int) -> None:
        """Raise `FewShotError` where the method was made for fewer classes, before any image is read."""
        if isinstance(self.method, InnerLoopMethod):
            self.method.find_present_classes(torch.zeros(1, 0, dtype=torch.int64), n_classes)

    def reader(self) -> Reader:
        """What reads images for it."""
        backbone = self.method.backbone
        if backbone is None:
            return Reader(0, 0, "pad")
        return Reader(backbone.in_channels, getattr(backbone, "image_px", backbone.input_px), self.plan.options.resize)

    def encode(self, parts: Iterable[Read]) -> Iterator[Read]:
        """The same images with `values` (n, …) as the method classifies them, on the CPU, part after part."""
        return (part._replace(values=self.content(part.values)) for part in parts)

    def content(self, values: Tensor) -> Tensor:
        """What the method classifies of pixels (n, C, size_px, size_px) uint8, on the CPU; of features, themselves."""
        if self.method.backbone is None or not self.method.uses_features:
            return values
        images = ImageSet(values, np.zeros(len(values), np.int64), ["any"])
        return embed(self.network, images, precision=self.precision).values.float().cpu()

    @cached_property
    def network(self) -> Method:
        """The method, its backbone made for inference; made once, as weights stay as they are.

        A copy, channels-last for good: threads may share it, and the method's own weights are saved as they were.
        """
        reader = self.reader()
        side = (1, reader.channels, reader.size_px, reader.size_px)
        example = torch.randint(256, side, dtype=torch.uint8, generator=seeding.generator(0, "an image to fold by"))
        network = copy.deepcopy(self.method)
        network.backbone = fold_batchnorm(network.backbone, example.to(self.device))
        keep_channels_last(network)
        return network
