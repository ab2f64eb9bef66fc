"""`Method`, the base class of all methods, which map a support set and queries to logits."""

from collections.abc import Callable
from typing import ClassVar, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, explaining
from fewshot.methods.context import EpisodeContext
from fewshot.methods.features import FeatureHead, encode_images
from fewshot.methods.scores import accuracy, negative_log_likelihood
from fewshot.registry import Registry, unwrap
from fewshot.sampling.episodes import Episode

METHODS = Registry("method", n_given=1)  # the backbone


Family = Literal["episodic", "adapted", "two-stage", "stage one"]


class Method(nn.Module):
    """Classifies queries by a support set, for a batch of B episodes at once.

    A method never receives query labels and keeps no state between calls, so the same episode always gets the same
    logits. A subclass has a `head` on features (see `FeatureHead`), or its own `forward` if it needs all images of an
    episode together, for instance to adapt its weights to them.

    Class attributes describe the method; what depends on options are read-only properties.

    Attributes:
        label: name in tables and figures (default: the name of the class).
        family: "episodic" (a comparison trained on episodes), "adapted" (by gradient steps on each support set), or
            "two-stage" (starts from a network that was trained as a plain classifier); "stage one" is that classifier.
        needs_network: whether it needs a backbone, and cannot work from features alone.
        learned_classes: whether the logits depend on which class is given which label, because a classifier is learned
            for each label.
        published: whether the repository reports its accuracy: it then has recipes, bounds in the regression guard, and
            a colour in figures.
        colour: colour of its lines in figures; only published methods need one.
        reports_adapted: whether `forward` gives `EpisodeContext.adapted` the network adapted to each episode.
        requires: an optional package that it needs, or "".
        evidence_in_logits: whether the log of the sum of exp(logit) measures how well a query fits any class, on a
            scale that is comparable between queries and between numbers of classes.
    """

    label: ClassVar[str] = "method"
    family: ClassVar[Family] = "episodic"
    needs_network: ClassVar[bool] = False
    learned_classes: ClassVar[bool] = False
    published: ClassVar[bool] = False
    colour: ClassVar[str] = ""
    reports_adapted: ClassVar[bool] = False
    requires: ClassVar[str] = ""
    evidence_in_logits: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "label" not in vars(cls):
            cls.label = cls.__name__
        if cls.family not in get_args(Family):
            raise ConfigError(f"{cls.__name__}: family is one of {', '.join(get_args(Family))}; got {cls.family!r}")
        if cls.published and not cls.colour:
            raise ConfigError(f"{cls.__name__}: a published method needs a colour, such as '#3B8F7E', for its lines")

    def __init__(self, backbone: nn.Module | None) -> None:
        """Create a method on a backbone.

        Args:
            backbone: maps images (n, C, H, W) to features (n, D); None if features are given directly.

        Raises:
            ConfigError: without a backbone if the method needs one.
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
        """Whether it works from features, which are then computed once for all episodes; see `FeatureHead`."""
        return hasattr(self, "head")

    @property
    def order_matters(self) -> bool:
        """Whether logits depend on the order of the support images."""
        return False

    @property
    def must_be_trained(self) -> bool:
        """Whether it has learnable tensors (not only scalars) besides its backbone, so that it is useless untrained."""
        return any(p.ndim and not name.startswith("backbone.") for name, p in self.named_parameters())

    @property
    def needs_base_features(self) -> bool:
        """Whether it needs the features of the base classes; see `learn_base_classes`."""
        return False

    @property
    def frozen(self) -> bool:
        """Whether there is a backbone and none of its weights requires a gradient."""
        return self.backbone is not None and not any(p.requires_grad for p in self.backbone.parameters())

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen backbone stays in evaluation mode, so that its running statistics do not change."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Compute features (*, D), float32 or wider, of images (*, C, H, W) (uint8, or prepared for the backbone).

        Without a backbone the features of uint8 images are their pixels in [0, 1]; features are returned unchanged.
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
        """Compute the logits of queries from images, or from features without a backbone.

        Support and queries go through the backbone together: in training they share batch statistics.

        Args:
            support: images (B, n_support, C, H, W).
            support_labels: (B, n_support), 0..n_way-1, or -1 for padding.
            query: images (B, n_query, C, H, W).
            n_way: number of classes.
            context: further information that some methods use: transductive ones need its query mask.

        Returns:
            Logits (B, n_query, n_way); those of classes without support are -inf, and those of padding queries are
            finite but meaningless.
        """
        n_support = support.shape[1]
        features = self.encode(torch.cat([support, query], 1))  # (B, n_support + n_query, D)
        return self._apply_head(features[:, :n_support], support_labels, features[:, n_support:], n_way)

    def _apply_head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Call `head` in the precision of the features, without autocast."""
        with torch.autocast(support.device.type, enabled=False):
            return cast(FeatureHead, self).head(support, support_labels, query, n_way)

    def classify(
        self, episode: Episode, adapted: Callable[[int, Callable[[Tensor], Tensor]], None] | None = None
    ) -> Tensor:
        """Compute logits (B, n_query, n_way) of episodes of images or features; query labels only mark padding.

        `adapted`: see `EpisodeContext`. Raises `ConfigError` if the episodes contain features and the method needs
        images.
        """
        arguments = (episode.support, episode.support_labels, episode.query, episode.n_way)
        if not episode.of_features:
            return self(*arguments, context=EpisodeContext(None if episode.unpadded else episode.query_mask, adapted))
        if not self.uses_features:
            raise ConfigError(f"{self.label} with these options classifies images, but was given features")
        return self._apply_head(*arguments)

    def predict_among(
        self, features: Tensor, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        """Compute logits (B, n_query, n_way) of images of one set by others of it: `head` of B choices of support.

        `features` (n, D) of all; `support` (B, n_support), `query` (B, n_query): rows; `support_labels` (B, n_support).
        """
        return self._apply_head(features[support], support_labels, features[query], n_way)

    def similarity(self, support: Tensor, query: Tensor) -> Tensor:
        """Compute the similarity of images, (n_query, n_support), 1 for equal ones: the cosine of features (n, D)."""
        return F.normalize(query.flatten(1), dim=1) @ F.normalize(support.flatten(1), dim=1).T

    def learn_base_classes(self, features: Tensor, labels: Tensor) -> None:
        """Learn from the features of the base classes, before any episode; called if `needs_base_features`.

        Store the result in buffers or parameters, so that checkpoints contain it.

        Args:
            features: (n, D), from `encode`, of all training images.
            labels: (n,), their classes.
        """

    def training_step(self, batch: Episode) -> tuple[Tensor, Tensor]:
        """Compute the training loss and the accuracy on a batch, two scalars; the accuracy has no gradient."""
        loss, logits = self.loss_and_logits(batch)
        return loss, accuracy(logits.detach(), batch.query_labels).mean()

    def loss(self, episode: Episode) -> Tensor:
        """Compute the training loss, a scalar."""
        return self.loss_and_logits(episode)[0]

    def loss_and_logits(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Compute the training loss, a scalar, and the logits (B, n_query, n_way) that it is made from."""
        logits = self.classify(episode)
        return negative_log_likelihood(logits, episode.query_labels).mean(), logits


def create_method(name: str, backbone: nn.Module | None, **options: object) -> Method:
    """Create a method by its registered name.

    Args:
        name: see `list_methods`.
        backbone: maps images (n, C, H, W) to features (n, D); None if features are given directly.
        options: options of the method; its docstring explains them.

    Returns:
        The method with its initial weights.

    Raises:
        UnknownNameError: for an unknown name or option.
        ConfigError: for an option of the wrong type or value, and without a backbone if the method needs one.
    """
    METHODS.options(name).check(options)
    with explaining(f"method {name!r}", options):
        return METHODS[name](backbone, **options)


def find_method(name: str) -> type[Method]:
    """Find the class that is registered as `name`; raises `ConfigError` if it is no subclass of `Method`."""
    kind = unwrap(METHODS[name])
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(f"method {name!r} is registered as {kind!r}, which is no class of methods")
    return kind


def list_methods() -> list[str]:
    """List the names that `create_method` knows."""
    return METHODS.names()
