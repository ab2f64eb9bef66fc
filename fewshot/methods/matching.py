"""Matching Networks."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import cosine, mask_absent, squared_euclidean
from fewshot.sampling.episodes import PADDING


@METHODS.register("matching")
class MatchingNetwork(Method):
    """A query attends to all support images; the probability of a class is the sum of its images' attention.

    Args:
        backbone: computes the features of images; None if features are given.
        similarity: similarity in the attention: the cosine times a learned scale, or the negated squared Euclidean
            distance.
        initial_scale: initial scale of the cosine.
        full_context: first embed features in the context of the support set (`FullContext`), whose order then matters.
        processing_steps: number of steps of this embedding for each query.
        feature_dim: dimensions of the features, for full_context (default: the backbone's own).

    Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, Matching Networks for One Shot Learning,
    NeurIPS 2016, https://arxiv.org/abs/1606.04080. Attention is a softmax, over the episode's support
    images, of the cosine times a learnable `scale`, or of the negated squared Euclidean distance.
    The logits are the logarithms of the class probabilities, so cross-entropy is the paper's loss.

    Differs from the paper: its cosine has no scale, which limits the weights of attention to between e^-1 and e and was
    found to train badly (README of https://github.com/oscarknagg/few-shot: 75.6% against 93.8% at
    20-way 1-shot Omniglot); its fine-tuning on the support set is left out.
    """

    label, family = "Matching", "episodic"
    published, colour = True, "#3FA9DB"

    def __init__(
        self,
        backbone: nn.Module | None,
        similarity: Literal["cosine", "squared_euclidean"] = "cosine",
        initial_scale: float = 10.0,  # of the cosine, as in MetaBaseline
        full_context: bool = False,
        processing_steps: int = 5,  # the paper gives none; Chen et al. 2019 take the number of support images
        feature_dim: int | None = None,
    ) -> None:
        super().__init__(backbone)
        if similarity not in ("cosine", "squared_euclidean"):
            raise ConfigError(f"matching: similarity is cosine or squared_euclidean, got {similarity!r}")
        self.similarity_name = similarity  # `similarity` is a method
        self.scale = nn.Parameter(torch.tensor(float(initial_scale))) if similarity == "cosine" else None
        self.full_context = full_context
        if full_context:
            self.context = FullContext(_find_feature_dim(backbone, feature_dim), processing_steps)

    @property
    def order_matters(self) -> bool:
        """Whether recurrent networks process the support in order."""
        return self.full_context

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        if self.full_context:
            support, query = self.context(support, support_labels != PADDING, query)
        if self.scale is None:
            similarities = -squared_euclidean(query, support)  # (B, n_query, n_support)
        else:
            similarities = self.scale * cosine(query, support)
        sums, present = class_logsumexp(similarities, support_labels, n_way)
        return mask_absent(sums, present).log_softmax(-1)


class FullContext(nn.Module):
    """Fully conditional embeddings: embeds support and query features in the context of the support set.

    Appendix A of the paper. Support: g = h_forward + h_backward + g', by a bidirectional LSTM over the support
    images in the given order, without padding. Query: `processing_steps` steps of an LSTM with input f'. Its hidden
    state is concatenated with the softmax attention of h on g, and f' is added to its output: h = h_hat + f'. It starts
    from h_hat = 0, so h = f', and from a zero cell, which the paper does not specify.
    """

    def __init__(self, feature_dim: int, processing_steps: int = 5) -> None:
        super().__init__()
        if processing_steps < 1:
            raise ConfigError(f"matching: processing_steps must be at least 1, got {processing_steps}")
        self.processing_steps = processing_steps
        self.forwards = nn.LSTM(feature_dim, feature_dim, batch_first=True)
        self.backwards = nn.LSTM(feature_dim, feature_dim, batch_first=True)
        self.reader = nn.LSTMCell(2 * feature_dim, feature_dim)  # input [f', read]: [h, read] is the paper's state

    def forward(self, support: Tensor, real: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Embed support (B, n_support, D) and queries (B, n_query, D); `real` (B, n_support) is False for padding."""
        support = self._embed_support(support, real)
        return support, self._embed_query(query, support, real)

    def _embed_support(self, features: Tensor, real: Tensor) -> Tensor:
        place = torch.arange(real.shape[1], device=real.device).expand_as(real)
        embedded = features
        for lstm, key in ((self.forwards, place), (self.backwards, -place)):
            order = key.masked_fill(~real, real.shape[1]).argsort(1)  # padding comes last: it affects no image
            embedded = embedded + _gather_rows(lstm(_gather_rows(features, order))[0], order.argsort(1))
        return embedded

    def _embed_query(self, features: Tensor, support: Tensor, real: Tensor) -> Tensor:
        hidden, cell = features, torch.zeros_like(features)  # (B, n_query, D)
        shape = features.shape
        for _ in range(self.processing_steps):
            attention = (hidden @ support.transpose(1, 2)).masked_fill(~real[:, None], -torch.inf).softmax(-1)
            inputs = torch.cat([features, attention @ support], -1)  # (B, n_query, 2 D)
            flat = (hidden.flatten(0, 1), cell.flatten(0, 1))
            output, cell = (state.reshape(shape) for state in self.reader(inputs.flatten(0, 1), flat))
            hidden = output + features
        return hidden


def class_logsumexp(values: Tensor, labels: Tensor, n_way: int) -> tuple[Tensor, Tensor]:
    """Compute logsumexp over the columns of each class, (B, n, n_way), and the classes present, (B, n_way) bool.

    `values` (B, n, m), `labels` (B, m) in 0..n_way-1 or -1 for padding. The maximum of each class is subtracted first,
    for numerical stability. The result for a class without columns is 0.
    """
    member = F.one_hot(labels + 1, n_way + 1)[..., 1:].to(values.dtype)  # (B, m, n_way)
    present = member.sum(1) > 0
    column = labels.clamp_min(0)[:, None].expand_as(values)  # (B, n, m)
    lowest = values.detach().masked_fill(labels[:, None] == PADDING, -torch.inf)
    largest = values.new_full((*values.shape[:2], n_way), -torch.inf).scatter_reduce(2, column, lowest, "amax")
    largest = largest.masked_fill(~present[:, None], 0)  # (B, n, n_way)
    shifted = (values - largest.gather(2, column)).masked_fill(labels[:, None] == PADDING, -torch.inf)
    sums = shifted.exp() @ member + (~present[:, None]).to(values.dtype)  # (B, n, n_way)
    return sums.log() + largest, present


def _gather_rows(features: Tensor, order: Tensor) -> Tensor:
    """Take the rows `order` (B, n) of `features` (B, n, D)."""
    return features.gather(1, order[..., None].expand_as(features))


def _find_feature_dim(backbone: nn.Module | None, feature_dim: int | None) -> int:
    given = getattr(backbone, "feature_dim", None)
    if given is None and feature_dim is None:
        raise ConfigError("matching: full_context without a backbone needs feature_dim, the length of a feature")
    if given is not None and feature_dim not in (None, given):
        raise ConfigError(f"matching: feature_dim is {feature_dim}, but the backbone's features have {given}")
    return given or feature_dim
