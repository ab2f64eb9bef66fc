"""Baseline and Baseline++: fit a head to each episode on fixed features."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.errors import ConfigError
from fewshot.methods.base import METHODS, Method
from fewshot.methods.distances import mask_absent
from fewshot.methods.solvers.sgd_draws import draw
from fewshot.methods.solvers.sgd_head import fit_cosine, fit_linear
from fewshot.methods.solvers.softmax_among import predict_among
from fewshot.methods.solvers.softmax_regression import fit_softmax_regression

Solver = Literal["faithful", "logistic"]
NORM_FLOOR = 1e-5  # added to the length of a feature; CloserLookFewShot, backbone.py


def _check(method: str, solver: str, c: float) -> None:
    if solver not in ("faithful", "logistic"):
        raise ConfigError(f"{method}: solver is faithful or logistic, got {solver!r}")
    if not c > 0:
        raise ConfigError(f"{method}: c, the weight of the data against the penalty, is positive, got {c}")


def _compute_logits(query: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Compute logits (B, n_query, n_way) of a linear head; −inf for classes without support."""
    present = (labels[..., None] == torch.arange(weight.shape[1], device=labels.device)).any(1)
    return mask_absent(torch.baddbmm(bias[:, None], query, weight.mT), present)


@METHODS.register("baseline")
class Baseline(Method):
    """Fits a linear classifier to the features of each episode's support set.

    Args:
        backbone: computes the features of images; None if features are given.
        solver: "faithful" repeats the authors' SGD from a new linear layer; "logistic" finds the minimum of
            L2-regularised cross-entropy (`softmax_regression`).
        c: weight of the data against the penalty with the logistic solver, scikit-learn's C.
        normalize: scale features to unit length first.
        seed: seed of the random numbers of an episode, together with the episode itself.

    Chen, Liu, Kira, Wang, Huang, A Closer Look at Few-shot Classification, ICLR 2019,
    https://arxiv.org/abs/1904.04232, section 3.2 and the authors' code. With `solver="faithful"` (`sgd_head`) the
    initial head and the order of the images are random; they depend only on `seed` and the episode, see
    `sgd_draws.draw`.

    The head is fitted to detached features, so a loss reaches the backbone only through the features of the queries. As
    the authors do, first train the backbone as a classifier of the base classes (stage 1).

    Differs from the authors' code: classes that an episode lacks are ignored; `logistic` and `normalize` are ours.
    """

    label, family = "Baseline", "two-stage"
    published, colour = True, "#7A5C1E"

    def __init__(
        self,
        backbone: nn.Module | None,
        solver: Solver = "faithful",
        c: float = 1.0,
        normalize: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone)
        _check("baseline", solver, c)
        self.solver, self.c, self.normalize, self.seed = solver, c, normalize, seed

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        support = support.detach()
        if self.normalize:
            support, query = F.normalize(support, dim=-1), F.normalize(query, dim=-1)
        if self.solver == "faithful":
            draws = draw(support, support_labels, n_way, self.seed)
            weight, bias = fit_linear(support, support_labels, draws)
        else:
            weight, bias = fit_softmax_regression(support, support_labels, n_way, self.c)
        return _compute_logits(query, weight, bias, support_labels)

    def predict_among(
        self, features: Tensor, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int
    ) -> Tensor:
        if self.solver == "faithful" or len(features) > features.shape[1]:  # then inner products save nothing
            return super().predict_among(features, support, support_labels, query, n_way)
        features = F.normalize(features, dim=-1) if self.normalize else features
        return predict_among(features, support, support_labels, query, n_way, self.c)


@METHODS.register("baseline++")
class BaselinePlusPlus(Method):
    """Like Baseline, but with cosine similarities: logits are `scale` · |w_c| · cos(w_c, x), without a bias.

    Args:
        backbone: computes the features of images; None if features are given.
        solver: "faithful" repeats the authors' SGD, which learns the norms too; "logistic" fits softmax regression to
            the unit-length features times scale.
        scale: factor of the logits; the authors' is 2 for up to 200 classes.
        c: weight of the data against the penalty with the logistic solver, scikit-learn's C.
        seed: seed of the random numbers of an episode, together with the episode itself.

    Chen et al. 2019, as above, section 3.2. In the authors' code, and with `solver="faithful"` here, each class's
    norm |w_c| is learned too, separately from its direction (torch's WeightNorm), so logits are not just cosines.
    Their scale is 2 for up to 200 classes. `solver="logistic"` fits softmax regression (with a bias) with C = `c`
    to the unit-length features times `scale`, which bounds the norms by a penalty instead.

    Differs from the paper: norms are learned, as in the authors' code. Differs from that code as Baseline does.
    """

    label, family = "Baseline++", "two-stage"
    published, colour = True, "#CC8F00"

    def __init__(
        self,
        backbone: nn.Module | None,
        solver: Solver = "faithful",
        scale: float = 2.0,
        c: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone)
        _check("baseline++", solver, c)
        if not scale > 0:
            raise ConfigError(f"baseline++: scale is positive, got {scale}")
        self.solver, self.scale, self.c, self.seed = solver, scale, c, seed

    def head(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        support, query = (x / (x.norm(dim=-1, keepdim=True) + NORM_FLOOR) for x in (support.detach(), query))
        if self.solver == "faithful":
            draws = draw(support, support_labels, n_way, self.seed)
            weight = self.scale * fit_cosine(support, support_labels, draws, self.scale)
            bias = weight.new_zeros(weight.shape[:2])
        else:
            weight, bias = fit_softmax_regression(self.scale * support, support_labels, n_way, self.c)
            weight = self.scale * weight
        return _compute_logits(query, weight, bias, support_labels)
