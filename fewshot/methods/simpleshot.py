"""SimpleShot: the nearest mean after centring and normalising features."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError, DataError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent, prototypes, squared_euclidean


@METHODS.register("simpleshot")
class SimpleShot(Method):
    """The nearest mean of transformed support features, for a backbone trained as a plain classifier.

    Args:
        backbone: computes the features of images; None if features are given.
        transform: transformation of features: "UN" none; "L2N" division by their length; "CL2N" the same after
            subtracting the mean feature of the base classes' images.

    Wang, Chao, Weinberger, van der Maaten, SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot
    Learning, 2019, https://arxiv.org/abs/1911.04623; code https://github.com/mileyan/simple_shot, src/train.py.
    Transformed supports are averaged, and the mean is not normalised again. Logits are negated squared Euclidean
    distances.

    CL2N must learn that mean first, by `learn_base_classes`; it is saved with the weights.

    Differs from the paper: none known; the authors take distances, unsquared, for predictions only.
    """

    label, family = "SimpleShot", "two-stage"
    published, colour = True, "#6E9B00"

    base_mean: Tensor  # (feature_dim,); empty until learned if no backbone defines feature_dim
    base_mean_learnt: Tensor  # () bool

    def __init__(self, backbone: nn.Module | None, transform: Literal["UN", "L2N", "CL2N"] = "CL2N") -> None:
        super().__init__(backbone)
        if transform not in ("UN", "L2N", "CL2N"):
            raise ConfigError(f"simpleshot: transform is UN, L2N or CL2N, got {transform!r}")
        self.transform = transform
        if self.needs_base_features:
            self.register_buffer("base_mean", torch.zeros(getattr(backbone, "feature_dim", 0)))
            self.register_buffer("base_mean_learnt", torch.tensor(False))

    @property
    def needs_base_features(self) -> bool:
        """Whether features are centred on the mean of the base classes."""
        return self.transform == "CL2N"

    @torch.no_grad()
    def learn_base_classes(self, features: Tensor, labels: Tensor) -> None:
        """Compute the mean of `features` (n, D) of the base classes' images; each image has the same weight.

        `labels` (n,) are not used. With UN and L2N nothing is learned. Raises `DataError` if there are no features, or
        if D differs from the backbone's.
        """
        if not self.needs_base_features:
            return
        feature_dim = getattr(self.backbone, "feature_dim", features.shape[-1])
        if features.ndim != 2 or len(features) == 0 or features.shape[1] != feature_dim:
            got = tuple(features.shape)
            raise DataError(f"simpleshot: expected features (n, {feature_dim}) of n > 0 images, got {got}")
        self.base_mean = features.mean(0, dtype=torch.float64).to(self.base_mean)
        self.base_mean_learnt.fill_(True)

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        means, present = prototypes(self._transform(support), support_labels, n_way)
        return mask_absent(-squared_euclidean(self._transform(query), means), present)

    def _transform(self, features: Tensor) -> Tensor:
        if self.transform == "UN":
            return features
        if self.transform == "CL2N":
            if not self.base_mean_learnt:
                raise DataError(
                    "simpleshot: CL2N needs the base classes' mean feature: first call learn_base_classes"
                    "(features, labels) with those of the training images, or choose transform L2N or UN"
                )
            features = features - self.base_mean
        return F.normalize(features, dim=-1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Resize the mean to the saved one, since without a backbone its size is not known before."""
        saved = state_dict.get(f"{prefix}base_mean")
        if saved is not None and self.needs_base_features and self.base_mean.numel() == 0:
            self.base_mean = self.base_mean.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
