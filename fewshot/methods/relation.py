"""Relation Network."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, FewShotError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.context import EpisodeContext, get_query_mask
from fewshot.methods.distances import mask_absent
from fewshot.methods.features import widen
from fewshot.methods.inner_loop.episode_statistics import episode_statistics, refuse_other_statistics
from fewshot.methods.modules.relation_module import RelationModule
from fewshot.sampling.episodes import PADDING, Episode


@METHODS.register("relation")
class RelationNetwork(Method):
    """A small network scores the similarity of each query's feature map to that of each class.

    Args:
        backbone: computes the features of images; None if features are given.
        loss: "mse": mean squared error of the sigmoid scores, with target 1 for the class of a query and 0 for the
            others; or "cross_entropy" of the logits.
        shot_pooling: whether the map of a class is the sum or the mean of its support maps.
        transductive: normalise by the statistics of each episode, which is the published protocol.
        n_filters: filters of the relation module's convolutions.
        n_hidden: number of hidden units of its linear layers.

    Sung, Yang, Zhang, Xiang, Torr, Hospedales, Learning to Compare: Relation Network for Few-Shot Learning, CVPR
    2018, https://arxiv.org/abs/1711.06025, and the authors' code,
    https://github.com/floodsung/LearningToCompare_FSL. Logits are the relation scores before the sigmoid. The
    authors' backbone is "conv4-relation".

    `transductive=True` is the published protocol: in training and at test batch normalisation uses the statistics of
    each episode, separately for support, queries and pairs, so the logits of a query depend on the other queries. By
    default batch normalisation uses running statistics at test; in training its statistics include the pairs of classes
    that pad a ragged episode.

    Differs from the authors' code: see `RelationModule`; the backbone has its own initial values, only the relation
    module has theirs.
    """

    label, family = "Relation", "episodic"
    published, colour = True, "#00906A"
    needs_network = True

    def __init__(
        self,
        backbone: nn.Module | None,
        loss: Literal["mse", "cross_entropy"] = "mse",
        shot_pooling: Literal["sum", "mean"] = "sum",
        transductive: bool = False,
        n_filters: int = 64,
        n_hidden: int = 8,
    ) -> None:
        super().__init__(backbone)
        if loss not in ("mse", "cross_entropy"):
            raise ConfigError(f"relation: loss is mse or cross_entropy, got {loss!r}")
        if shot_pooling not in ("sum", "mean"):
            raise ConfigError(f"relation: shot_pooling is sum or mean, got {shot_pooling!r}")
        self.loss_name, self.shot_pooling, self._transductive = loss, shot_pooling, transductive
        channels, side_px = _find_map_shape(backbone)
        if transductive:
            refuse_other_statistics(backbone, "relation")
        self.relation = RelationModule(channels, side_px, n_filters, n_hidden)

    @property
    def transductive(self) -> bool:
        return self._transductive

    @property
    def uses_features(self) -> bool:
        """Whether an image has the same maps in every episode."""
        return not self._transductive

    def encode(self, images: Tensor) -> Tensor:
        """Compute feature maps (*, c, h, w), float32 or wider, of images (*, C, H, W)."""
        maps = self.backbone.feature_maps(images.flatten(0, -4))  # (n, c, h, w)
        return widen(maps).unflatten(0, images.shape[:-3])

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Compute logits (B, n_query, n_way) from maps of support (B, n_support, c, h, w) and queries."""
        return self._compare(support, support_labels, query, n_way, None)

    def _compare(
        self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, mask: Tensor | None
    ) -> Tensor:
        """Compute logits as `head`; if transductive, statistics are those of the queries in `mask` (B, n_query)."""
        member = F.one_hot(support_labels + 1, n_way + 1)[..., 1:].to(support.dtype)  # (B, n_support, n_way)
        counts = member.sum(1)  # (B, n_way)
        if self.shot_pooling == "mean":
            member = member / counts.clamp_min(1)[:, None]
        classes = (member.transpose(1, 2) @ support.flatten(2)).unflatten(2, support.shape[2:])  # (B, n_way, c, h, w)
        present = counts > 0
        counted = (present, mask) if self.transductive else None
        return mask_absent(self.relation(classes, query, counted), present)

    def forward(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        context: EpisodeContext | None = None,
    ) -> Tensor:
        """Compute logits (B, n_query, n_way); if transductive, support and queries are encoded separately."""
        if not self.transductive:
            return super().forward(support, support_labels, query, n_way)
        mask = get_query_mask(context)
        support = self._encode_by_episode(support, support_labels != PADDING)
        query = self._encode_by_episode(query, mask)
        with torch.autocast(support.device.type, enabled=False):
            return self._compare(support, support_labels, query, n_way, mask)

    def _encode_by_episode(self, images: Tensor, counted: Tensor | None) -> Tensor:
        with episode_statistics(self, images.shape[0], images.shape[1], counted):
            return self.encode(images)

    def loss_and_logits(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Compute the training loss, a scalar, and the logits (B, n_query, n_way) that it is made from."""
        if self.loss_name == "cross_entropy":
            return super().loss_and_logits(episode)
        logits = self.classify(episode)
        return squared_error(logits, episode.query_labels).mean(), logits


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean squared error of sigmoid(logit) over the pairs of each episode, with target 1 or 0: (B,).

    `logits` (B, n_query, n_way), `labels` (B, n_query); padding and absent classes do not count.
    """
    target = F.one_hot(labels + 1, logits.shape[2] + 1)[..., 1:]  # (B, n_query, n_way)
    counts = (labels != PADDING)[..., None] & (logits != -torch.inf)
    errors = (logits.sigmoid() - target).square() * counts
    return errors.sum((1, 2)) / counts.sum((1, 2))


@torch.no_grad()
def _find_map_shape(backbone: nn.Module | None) -> tuple[int, int]:
    """Find the channels and side of the backbone's feature maps by passing one blank image."""
    if not hasattr(backbone, "feature_maps"):
        raise ConfigError("relation compares feature maps: it needs a backbone that has them, such as conv4-relation")
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        like = next(backbone.parameters(), torch.zeros(()))
        blank = like.new_zeros(1, backbone.in_channels, backbone.input_px, backbone.input_px)
        _, channels, height, width = backbone.feature_maps(blank).shape
    except FewShotError as error:
        raise ConfigError(f"relation compares feature maps: {error}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    if height != width or height < 2:
        raise ConfigError(
            f"relation compares square feature maps of at least 2 x 2, this backbone's are {height} x {width}: "
            "take conv4-relation, which pools less, or larger images"
        )
    return channels, height
