"""`Method`: a support set and queries become logits; every method is held to this contract."""

from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.context import EpisodeContext
from fewshot.methods.features import FeatureHead, encode_images
from fewshot.methods.scores import accuracy, negative_log_likelihood
from fewshot.registry import Registry, unwrap
from fewshot.sampling.episodes import Episode

METHODS = Registry("method", n_given=1)  # the backbone


Family = Literal["episodic", "adapted", "two-stage", "stage one"]


class Method(nn.Module):
    """Classifies queries by a support set, for a batch of B episodes at once.

    A method never receives query labels, keeps no state between calls, and answers the same episode the same way each
    time. A subclass has a `head` on features (see `FeatureHead`), or a `forward` of its own where it looks at the
    images of an episode together, for instance to adapt its weights to them.

    What is known of every instance is declared on the class; what options decide are read-only properties.

    Attributes:
        label: what tables and figures call it; by default the name of the class.
        family: "episodic" (a comparison trained on episodes), "adapted" (by gradient steps on each support set), or
            "two-stage" (starts from a network that was trained as a plain classifier); "stage one" is that classifier.
        needs_network: whether it cannot be made without a backbone.
        learned_classes: whether the logits depend on which class is given which label, since a classifier is learned
            for each label.
        published: whether the repository reports numbers of it: it then has recipes, bounds in the regression guard,
            and a colour in figures.
        colour: of its lines in figures; only published methods need one.
        requires: a package beside the dependencies without which it cannot be made, or "".
        evidence_in_logits: whether the log of the sum of exp(logit) tells how well a query fits any class, comparable
            between queries and numbers of classes.
    """

    label: ClassVar[str] = "method"
    family: ClassVar[Family] = "episodic"
    needs_network: ClassVar[bool] = False
    learned_classes: ClassVar[bool] = False
    published: ClassVar[bool] = False
    colour: ClassVar[str] = ""
    requires: ClassVar[str] = ""
    evidence_in_logits: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "label" not in vars(cls):
            cls.label = cls.__name__

    def __init__(self, backbone: nn.Module | None) -> None:
        """A method on a backbone.

        Args:
            backbone: images (n, C, H, W) -> features (n, D); None where features are given directly.

        Raises:
            ConfigError: without a backbone where one is needed.
        """
        super().__init__()
        if backbone is None and self.needs_network:
            raise ConfigError(f"{self.label} needs a backbone: it does not work from features alone")
        if not hasattr(self, "head") and type(self).forward is Method.forward:
            raise TypeError(f"{type(self).__name__} has neither a head on features nor a forward of its own")
        self.backbone = backbone

    @property
    def transductive(self) -> bool:
        """Whether a query's logits may depend on the other queries that take part."""
        return False

    @property
    def uses_features(self) -> bool:
        """Whether it works from features, so that an image is embedded once for all episodes; see `FeatureHead`."""
        return hasattr(self, "head")

    @property
    def order_matters(self) -> bool:
        """Whether logits depend on the order of the support images."""
        return False

    @property
    def must_be_trained(self) -> bool:
        """Whether it has learnable tensors, not just scalars, besides its backbone's: untrained they mean nothing."""
        return any(p.ndim and not name.startswith("backbone.") for name, p in self.named_parameters())

    @property
    def needs_base_features(self) -> bool:
        """Whether it keeps something of the base classes' features; see `learn_base_classes`."""
        return False

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

    def encode(self, images: Tensor) -> Tensor:
        """Features (*, D), float32 or wider, of images (*, C, H, W) (uint8, or prepared for the backbone).

        Without a backbone uint8 images are their own features, flat and in [0, 1], and features stay as they are.
        """
        if self.backbone is None:
            return images.flatten(-3).float() / 255 if images.dtype == torch.uint8 else images
        return encode_images(self.backbone, images)

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Logits of queries, from images, or from features without a backbone.

        Support and queries go through the backbone together: in training they share batch statistics.

        Args:
            support: images (B, n_support, C, H, W).
            support_labels: (B, n_support), 0..n_way-1, or -1 for padding.
            query: images (B, n_query, C, H, W).
            n_way: number of classes.
            context: what only some methods ask for, transductive ones for its query mask.

        Returns:
            Logits (B, n_query, n_way); those of classes without support are -inf, and those of queries that are
            padding are finite and mean nothing.
        """
        n_support = support.shape[1]
        features = self.encode(torch.cat([support, query], 1))  # (B, n_support + n_query, D)
        return self._apply_head(features[:, :n_support], support_labels, features[:, n_support:], n_way)

    def _apply_head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """`head`, in the precision of the features."""
        with torch.autocast(support.device.type, enabled=False):
            return cast(FeatureHead, self).head(support, support_labels, query, n_way)

    def classify(self, episode: Episode) -> Tensor:
        """Logits (B, n_query, n_way) of episodes of images or features; of query labels only padding is used.

        Raises `ConfigError` for features where the method classifies images.
        """
        arguments = (episode.support, episode.support_labels, episode.query, episode.n_way)
        if not episode.of_features:
            return self(*arguments, context=EpisodeContext(None if episode.unpadded else episode.query_mask))
        if not self.uses_features:
            raise ConfigError(f"{self.label} as it is configured classifies images, and was given features")
        return self._apply_head(*arguments)

    def similarity(self, support: Tensor, query: Tensor) -> Tensor:
        """How alike images are, (n_query, n_support), 1 where they are the same: the cosine of features (n, D)."""
        return F.normalize(query.flatten(1), dim=1) @ F.normalize(support.flatten(1), dim=1).T

    def learn_base_classes(self, features: Tensor, labels: Tensor) -> None:
        """Keep something of the base classes before any episode; called where `needs_base_features`.

        What is kept lies in buffers or parameters, so that a checkpoint holds it.

        Args:
            features: (n, D), from `encode`, of all training images.
            labels: (n,), their classes.
        """

    def training_step(self, batch: Episode) -> tuple[Tensor, Tensor]:
        """The training loss and the accuracy on a batch, two scalars; the accuracy has no gradient."""
        loss, logits = self.loss_and_logits(batch)
        return loss, accuracy(logits.detach(), batch.query_labels).mean()

    def loss(self, episode: Episode) -> Tensor:
        """What training minimises, a scalar."""
        return self.loss_and_logits(episode)[0]

    def loss_and_logits(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The training loss, a scalar, and the logits (B, n_query, n_way) it came from."""
        logits = self.classify(episode)
        return negative_log_likelihood(logits, episode.query_labels).mean(), logits


def create_method(name: str, backbone: nn.Module | None, **options: object) -> Method:
    """Create a method by its registered name.

    Args:
        name: see `list_methods`.
        backbone: images (n, C, H, W) -> features (n, D); None where features are given directly.
        options: of the method; its docstring explains them.

    Returns:
        The method with its initial weights.

    Raises:
        UnknownNameError: for an unknown name or option.
        ConfigError: for an option of the wrong type or value, and without a backbone where one is needed.
    """
    return METHODS.create(name, backbone, **options)


def find_method(name: str) -> type[Method]:
    """The class registered as `name`, with the facts that it declares; `ConfigError` where it is no `Method`."""
    kind = unwrap(METHODS[name])
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(f"method {name!r} is registered as {kind!r}, which is no class of methods")
    return kind


def list_methods() -> list[str]:
    """Names that `create_method` knows."""
    return METHODS.names()
