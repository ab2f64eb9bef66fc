"""A plain classifier of the base classes: stage 1 of the two-stage methods, and Classifier-Baseline."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import Method
from fewshot.methods.distances import cosine, mask_absent, prototypes
from fewshot.sampling.batches import Batch

TEMPERATURE = 10.0  # of the few-shot head; Chen et al. 2021, section 3.2. It changes the loss, not the accuracy


class CosineClassifier(nn.Module):
    """Maps features (n, D) to logits scale * |w_c| cos(x, w_c), (n, n_classes).

    Chen et al. 2019 (see `Classifier`): the weight vector of each class is normalised but its norm is learned, so
    logits are not proportional to the cosine. `scale` None: theirs, 2 for up to 200 classes, else 10.
    """

    def __init__(self, feature_dim: int, n_classes: int, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale or (2.0 if n_classes <= 200 else 10.0)
        initial = nn.Linear(feature_dim, n_classes, bias=False).weight.detach()  # (n_classes, D)
        self.direction = nn.Parameter(initial)
        self.norm = nn.Parameter(initial.norm(dim=1, keepdim=True))  # (n_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        weight = self.norm * F.normalize(self.direction, dim=1)
        return self.scale * F.linear(F.normalize(features, dim=1), weight)


class Classifier(Method):
    """A backbone and a head over `n_classes` base classes, trained by cross-entropy on plain batches.

    `classifier="linear"` (logits Wx + b) is stage 1 of Baseline, "cosine" that of Baseline++: Chen, Liu,
    Kira, Wang, Huang, A Closer Look at Few-shot Classification, ICLR 2019, https://arxiv.org/abs/1904.04232.

    In episodes this head is not used, and the method is Classifier-Baseline: a query belongs to the class whose mean
    support feature has the largest cosine. Chen, Liu, Xu, Darrell, Wang, Meta-Baseline: Exploring Simple
    Meta-Learning for Few-Shot Learning, ICCV 2021, https://arxiv.org/abs/2003.04390, section 3.1; the mean
    is of raw features, as in the authors' code.

    Args:
        backbone: maps images (n, C, H, W) to features (n, D).
        n_classes: number of base classes.
        classifier: kind of the head.
        scale: factor of cosine logits (default: 2 for up to 200 classes, else 10).
        label_smoothing: label smoothing of the cross-entropy, in [0, 1).

    Raises:
        ConfigError: for an unknown `classifier` or an impossible `scale`.

    Differs from the papers: the linear head's bias starts at 0, as in the code of the first; in the
    code of the second it is random. The cosine heads of the first divide by |x| + 1e-5.
    """

    label, family = "classifier, stage 1", "stage one"
    colour = "#9A9A9A"

    def __init__(
        self,
        backbone: nn.Module,
        n_classes: int,
        classifier: Literal["linear", "cosine"] = "linear",
        scale: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(backbone)
        if classifier not in ("linear", "cosine"):
            raise ConfigError(f"classifier is linear or cosine, got {classifier!r}")
        if scale is not None and (classifier == "linear" or scale <= 0):
            raise ConfigError(f"the scale of a cosine classifier is positive, got {scale} for a {classifier} one")
        self.label_smoothing = label_smoothing
        if classifier == "linear":
            self.classifier = nn.Linear(backbone.feature_dim, n_classes)
            nn.init.zeros_(self.classifier.bias)
        else:
            self.classifier = CosineClassifier(backbone.feature_dim, n_classes, scale)

    def training_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the cross-entropy over the base classes and the accuracy on a batch of labelled images."""
        features = self.encode(batch.images)  # (n, D)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.classifier(features)  # (n, n_classes)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return loss, (logits.detach().argmax(1) == batch.labels).float().mean()

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(support, support_labels, n_way)  # (B, n_way, D), (B, n_way)
        return mask_absent(TEMPERATURE * cosine(query, means), present)
