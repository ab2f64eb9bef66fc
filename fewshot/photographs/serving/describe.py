"""Describes a torch method as a head of the predictor, or says why it cannot be exported."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fewshot.errors import ConfigError
from fewshot.methods import Method
from fewshot.methods.aligned import Aligned
from fewshot.methods.base_classifier import TEMPERATURE, Classifier
from fewshot.methods.baseline import NORM_FLOOR, Baseline, BaselinePlusPlus
from fewshot.methods.gda import GaussianDiscriminantAnalysis
from fewshot.methods.matching import MatchingNetwork
from fewshot.methods.meta_baseline import MetaBaseline
from fewshot.methods.nearest import NearestNeighbours
from fewshot.methods.prototypical import PrototypicalNetwork
from fewshot.methods.r2d2 import RidgeRegression
from fewshot.methods.simpleshot import SimpleShot
from fewshot.photographs.serving.gaussians import Arrays

FIXED_BY_DRAWS = (
    "this head was fitted by stochastic gradient descent, whose draws need torch: classes stay as they are; fit with "
    "fewshot and export again, or take solver=logistic"
)


def describe_head(method: Method) -> tuple[str, dict[str, Any]]:
    """Describe `method` by the name and the options of the equivalent head in `fewshot.photographs.serving.heads`.

    Raises `ConfigError` with the reason for a method that has none.
    """
    for kind, (name, describe) in KINDS.items():
        if type(method) is kind:
            return name, describe(method)
    if not method.uses_features:
        raise ConfigError(
            f"{method.label} adapts its network to each support set, which needs torch: it cannot be exported"
        )
    raise ConfigError(f"{method.label} compares images by a head of its own that runs in torch: it cannot be exported")


def probe_linear(method: Any, support: torch.Tensor, labels: torch.Tensor, n_classes: int) -> Arrays:
    """Find weight and bias of a linear head on prepared features from its logits of 0 and of each unit vector."""
    width = support.shape[1]
    queries = torch.cat([torch.zeros(1, width), torch.eye(width)]).to(support)
    logits = method.head(support[None], labels[None], queries[None], n_classes)[0].double().cpu().numpy()
    scale = 1 + NORM_FLOOR if isinstance(method, BaselinePlusPlus) else 1.0
    return {"weight": scale * (logits[1:] - logits[0]).T, "bias": logits[0]}


def is_fixed(method: Method) -> bool:
    """Whether the head cannot be fitted without torch."""
    return isinstance(method, Baseline | BaselinePlusPlus) and method.solver == "faithful"


def _number(value: torch.Tensor) -> float:
    return float(value.detach())


def _describe_simpleshot(method: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"transform": method.transform}
    if method.transform == "CL2N":
        if not method.base_mean_learnt:
            raise ConfigError("simpleshot with CL2N has not learnt the base classes' mean: export a run that has")
        own["base_mean"] = method.base_mean.cpu().numpy()
    return own


def _describe_matching(method: Any) -> dict[str, Any]:
    if method.full_context:
        raise ConfigError("matching with full_context reads the support by recurrent networks: it cannot be exported")
    return {
        "similarity": method.similarity_name,
        "scale": None if method.scale is None else _number(method.scale),
    }


KINDS: Mapping[type[Method], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    Baseline: ("baseline", lambda m: {"normalize": m.normalize, "c": m.c}),
    BaselinePlusPlus: ("baseline++", lambda m: {"scale": m.scale, "c": m.c}),
    RidgeRegression: (
        "r2d2",
        lambda m: {"penalty": _number(m.log_lambda.exp()), "scale": _number(m.scale), "bias": _number(m.bias)},
    ),
    GaussianDiscriminantAnalysis: ("gda", lambda m: {"normalize": m.normalize, "shrinkage": m.shrinkage}),
    PrototypicalNetwork: ("protonet", lambda m: {"temperature": m.temperature}),
    SimpleShot: ("simpleshot", _describe_simpleshot),
    MetaBaseline: ("meta-baseline", lambda m: {"temperature": _number(m.temperature)}),
    Classifier: ("meta-baseline", lambda m: {"temperature": TEMPERATURE}),
    MatchingNetwork: ("matching", _describe_matching),
    NearestNeighbours: ("nearest", lambda m: {"k": m.k, "metric": m.metric}),
    Aligned: (
        "aligned",
        lambda m: {
            "layout": list(m.layout), "weight": m.weight, "sharpness": m.sharpness, "shrinkage": m.shrinkage, "c": m.c,
            "cues": list(m.cues), "colour_weight": m.colour_weight, "size_spread": m.size_spread,
        },
    ),
}  # fmt: skip
