"""The loss and the accuracy of each episode."""

from torch import Tensor
from torch.nn import functional as F

from fewshot.sampling.episodes import PADDING


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean negative log-likelihood of each episode's queries in nats, (B,); padding does not count."""
    nll = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PADDING, reduction="none")  # (B, n_query)
    return nll.sum(1) / (labels != PADDING).sum(1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the fraction of each episode's queries whose largest logit is that of their class, (B,)."""
    return (logits.argmax(-1) == labels).sum(1) / (labels != PADDING).sum(1)
