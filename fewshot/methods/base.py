"""`Method`: a support set and queries become logits; every method is held to this contract."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.registry import Registry
from fewshot.sampling.episodes import PADDING, Episode

METHODS = Registry("method", n_given=1)  # the backbone


@dataclass(frozen=True)
class EpisodeContext:
    """What a batch of B episodes tells a method besides images and support labels; most methods need none of it.

    `query_mask` (B, n_query) bool: the queries that take part; the others are padding. None: all take part.
    """

    query_mask: Tensor | None = None


class Method(nn.Module, ABC):
    """Classifies queries by a support set, for a batch of B episodes at once.

    A method never receives query labels, keeps no state between calls, and answers the same episode
    the same way each time. `backbone`: images (n, C, H, W) -> features (n, D), or None where features
    are given directly. `transductive`: a query's logits may depend on the other queries that take part.
    `from_features`: forward is `head` on the features of `encode`, image by image, so that an
    evaluator may run the backbone once per image instead of once per episode.
    `wants_base_features`: it keeps something of the base classes' features, see `learn_base_classes`.
    `evidence_in_logits`: the log of the sum of exp(logit) tells how well a query fits any class, comparable between
    queries and numbers of classes.
    """

    transductive = False
    from_features = True
    wants_base_features = False
    evidence_in_logits = False

    def __init__(self, backbone: nn.Module | None) -> None:
        super().__init__()
        self.backbone, self._given_features = backbone, False

    @property
    def frozen(self) -> bool:
        """Whether there is a backbone and none of its weights takes a gradient."""
        return self.backbone is not None and not any(p.requires_grad for p in self.backbone.parameters())

    def train(self, mode: bool = True) -> Self:
        """As of any module, but a frozen backbone stays in evaluation mode: its running statistics stay too."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    @contextmanager
    def given_features(self) -> Iterator[None]:
        """Within the block `forward` takes what `encode` made of images in their place (methods `from_features`)."""
        self._given_features = True
        try:
            yield
        finally:
            self._given_features = False

    def encode(self, images: Tensor) -> Tensor:
        """Features (*, D), float32 or wider, of images (*, C, H, W) (uint8, or prepared for the backbone).

        Without a backbone uint8 images are their own features, flat and in [0, 1], and features stay as they are.
        """
        if self.backbone is None:
            return images.flatten(-3).float() / 255 if images.dtype == torch.uint8 else images
        features = self.backbone(images.flatten(0, -4))  # (n, D)
        features = features.float() if features.dtype.itemsize < 4 else features
        return features.unflatten(0, images.shape[:-3])

    @abstractmethod
    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Logits (B, n_query, n_way) from features: support (B, n_support, D), query (B, n_query, D).

        `support_labels` (B, n_support): 0..n_way-1, or -1 for padding. Logits of classes without
        support are −inf.
        """

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Logits (B, n_query, n_way) of images (B, n, C, H, W), or of features without a backbone.

        Support and queries go through the backbone together: in training they share batch statistics.
        `context`: only some methods ask for it, transductive ones for its query mask. The logits of queries that are
        padding are finite and mean nothing.
        """
        images = torch.cat([support, query], 1)
        features = images if self._given_features else self.encode(images)  # (B, n_support + n_query, D)
        with torch.autocast(features.device.type, enabled=False):
            n_support = support.shape[1]
            return self.head(features[:, :n_support], support_labels, features[:, n_support:], n_way)

    def classify(self, episode: Episode) -> Tensor:
        """Logits (B, n_query, n_way) of episodes that carry images; of query labels only padding is used."""
        context = EpisodeContext(None if episode.unpadded else episode.query_mask)
        return self(episode.support, episode.support_labels, episode.query, episode.n_way, context=context)

    def similarity(self, support: Tensor, query: Tensor) -> Tensor:
        """How alike images are, (n_query, n_support), 1 where they are the same: the cosine of features (n, D)."""
        return F.normalize(query.flatten(1), dim=1) @ F.normalize(support.flatten(1), dim=1).T

    def learn_base_classes(self, features: Tensor, labels: Tensor) -> None:
        """What a method keeps of the base classes before any episode; called where `wants_base_features`.

        `features` (n, D), from `encode`, of all training images; `labels` (n,). What is kept lies in
        buffers or parameters, so that a checkpoint holds it.
        """

    def training_step(self, batch: Episode) -> tuple[Tensor, Tensor]:
        """The training loss and the accuracy on a batch, two scalars; the accuracy has no gradient."""
        loss, logits = self.loss_and_logits(batch)
        return loss, accuracy(logits.detach(), batch.query_labels).mean()

    def loss(self, episode: Episode) -> Tensor:
        """What training minimises, a scalar; the episode carries images (or features, without a backbone)."""
        return self.loss_and_logits(episode)[0]

    def loss_and_logits(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The training loss, a scalar, and the logits (B, n_query, n_way) it came from."""
        logits = self.classify(episode)
        return negative_log_likelihood(logits, episode.query_labels).mean(), logits


def get_query_mask(context: EpisodeContext | None) -> Tensor | None:
    """Which queries take part, (B, n_query) bool, or None where all do."""
    return None if context is None or context.query_mask is None else drop_full_mask(context.query_mask)


def drop_full_mask(mask: Tensor) -> Tensor | None:
    """`mask`, or None where it is True everywhere: what is computed without a mask is computed faster."""
    return None if bool(mask.all()) else mask


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of each episode's queries in nats, (B,); padding does not count."""
    nll = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PADDING, reduction="none")  # (B, n_query)
    return nll.sum(1) / (labels != PADDING).sum(1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of each episode's queries whose largest logit is the right one, (B,)."""
    return (logits.argmax(-1) == labels).sum(1) / (labels != PADDING).sum(1)


def create_method(name: str, backbone: nn.Module | None, **options: object) -> Method:
    """The registered method `name` on `backbone` (None where features are given directly).

    Raises `UnknownNameError` for an unknown name or option, `ConfigError` for an option of the wrong type.
    """
    return METHODS.create(name, backbone, **options)


def list_methods() -> list[str]:
    """Names that `create_method` knows."""
    return METHODS.names()
