"""Builds the method and backbone that the options of a `FewShotClassifier` name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewshot.backbones import Backbone, Viewed, create_backbone
from fewshot.config.classifier import ClassifierOptions, options_of
from fewshot.errors import ConfigError
from fewshot.experiments.build import load_run
from fewshot.methods import Method, create_method
from fewshot.methods.base_classifier import Classifier
from fewshot.runtime import seeding

DEFAULT_METHOD = "baseline"
DEFAULT_OPTIONS = {"solver": "logistic", "c": 10.0}
WEIGHT_OPTIONS = ("pretrained", "weights")
TURNS, ALIGNED_TURNS = 8, 24
ALIGNED_LAYERS = {"efficientnet-lite0": "blocks.3"}  # layer whose maps `aligned` compares, unless `views` names one


@dataclass(frozen=True)
class Plan:
    """The options and image format from which a method can be rebuilt before its stored weights are loaded.

    `options`: the user's, with defaults and values taken from a run filled in. `pixels`: channels, side_px, mean and
    std of the backbone's input; None if the method works on given features.
    """

    options: ClassifierOptions
    pixels: Mapping[str, Any] | None = None

    def build(self) -> Method:
        """Build the method with initial weights, to be replaced by stored ones."""
        options = self.options
        backbone = None
        if options.backbone is not None and self.pixels is not None:
            channels, side_px, mean, std = (self.pixels[key] for key in ("channels", "side_px", "mean", "std"))
            made = create_backbone(options.backbone, channels, side_px, **(options.backbone_options or {}))
            backbone = Backbone(made.body, channels, side_px, made.pooling, tuple(mean), tuple(std))
            backbone = Viewed(backbone, **options.views) if options.views else backbone
        return create_method(options.method or DEFAULT_METHOD, backbone, **(options.method_options or {}))


def build_method(asked: ClassifierOptions) -> tuple[Method, Plan]:
    """Build the method with its weights, in evaluation mode; raises `ConfigError` if the options contradict each other.

    Returns the method, and the `Plan` that rebuilds it.
    """
    method, changes = _load_from_run(asked) if asked.run_dir is not None else _build_by_names(asked)
    if method.must_be_trained and asked.run_dir is None:
        raise ConfigError(
            f"{asked.method} must be trained on other classes first: train it with scripts/train_episodic.py "
            "and give its run_dir, or choose another method"
        )
    if method.needs_base_features and asked.run_dir is None:
        raise ConfigError(
            f"{asked.method} with these options needs the mean of the base classes: give the run_dir of a run, "
            'or for simpleshot method_options={"transform": "L2N"}'
        )
    pixels = None
    if method.backbone is not None:
        keys = {"channels": "in_channels", "side_px": "input_px", "mean": "mean", "std": "std"}
        pixels = {key: getattr(method.backbone, name) for key, name in keys.items()}
        pixels = {key: list(v) if isinstance(v, tuple) else v for key, v in pixels.items()}
    return method.eval(), Plan(ClassifierOptions(**options_of(ClassifierOptions, asked, **changes)), pixels)


def choose_view_options(asked: ClassifierOptions) -> dict[str, Any]:
    """Translate rotation_invariant, find_circle and views into options of `Viewed`; empty if images stay unchanged."""
    turns, aligned = asked.rotation_invariant, asked.method == "aligned"
    options: dict[str, Any] = {}
    if turns:
        options["turns"] = (ALIGNED_TURNS if aligned else TURNS) if turns is True else turns
    if aligned and asked.run_dir is None and asked.backbone in ALIGNED_LAYERS:
        options["rings"] = ALIGNED_LAYERS[asked.backbone]
    if asked.find_circle:
        options["find_circle"] = True
    return options | dict(asked.views or {})


def _resolve_method(asked: ClassifierOptions) -> dict[str, Any]:
    """The name and the options of the method, with defaults filled in."""
    options = dict(asked.method_options or {})
    if asked.method_options is None and asked.method in (None, DEFAULT_METHOD):
        options = DEFAULT_OPTIONS | {"normalize": not choose_view_options(asked)}  # `Viewed` normalises already
    return {"method": asked.method or DEFAULT_METHOD, "method_options": options}


def _build_by_names(asked: ClassifierOptions) -> tuple[Method, dict[str, Any]]:
    """Build the named method on the named backbone; also returns the options that were filled in."""
    named, views = _resolve_method(asked), choose_view_options(asked)
    if asked.backbone is None:
        if views:
            raise ConfigError(
                "rotation_invariant, find_circle and views need images: without a backbone, X holds features"
            )
        return create_method(named["method"], None, **named["method_options"]), named
    if asked.pretrained and asked.weights:
        raise ConfigError(f"weights={str(asked.weights)!r} replace the published ones: also give pretrained=False")
    own = dict(asked.backbone_options or {})
    taken = sorted(own.keys() & {"in_channels", "input_px", "pretrained", "weights", "views"})
    if taken:
        raise ConfigError(
            f"backbone_options has {', '.join(taken)}: give size_px, pretrained, weights or views instead"
        )
    with seeding.fork(asked.seed, "initial weights"):
        loading = {"pretrained": asked.pretrained, "weights": asked.weights}
        backbone = create_backbone(asked.backbone, 3, asked.size_px, views=views, **loading, **own)
        method = create_method(named["method"], backbone, **named["method_options"])
    return method, named | {"backbone_options": own, "views": views}


def _refuse_other_network(asked: ClassifierOptions, network: dict[str, Any]) -> None:
    """Raise `ConfigError` for an option of a network that is not the one of the run in `asked.run_dir`."""
    for name in ("backbone", "backbone_options", "weights"):
        value = getattr(asked, name)
        if value not in (getattr(ClassifierOptions, name, None), network.get(name)):
            raise ConfigError(f"the network is that of the run {asked.run_dir}: leave out {name}, which is {value!r}")


def _load_from_run(asked: ClassifierOptions) -> tuple[Method, dict[str, Any]]:
    """Load the run's method, or put the named one on its backbone; also returns the options that were filled in."""
    trained, config = load_run(asked.run_dir)
    own = {key: value for key, value in config.backbone_options.items() if key not in (*WEIGHT_OPTIONS, "input_px")}
    views = choose_view_options(asked) or own.pop("views", {})
    network = {"backbone": config.backbone, "backbone_options": own, "views": views}
    _refuse_other_network(asked, network)
    whole = asked.method is None and not isinstance(trained, Classifier)
    if whole and not choose_view_options(asked):
        return trained, network | {"method": config.method, "method_options": config.method_options}
    named = _resolve_method(asked)
    source = trained.backbone.source if isinstance(trained.backbone, Viewed) else trained.backbone
    backbone = Viewed(source, **views) if views else source
    method = create_method(named["method"], backbone, **named["method_options"])
    if method.must_be_trained:
        raise ConfigError(
            f"{named['method']} must be trained: leave out method and views to take the run's own trained method"
        )
    return method, network | named
