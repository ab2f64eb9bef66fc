"""`timm/<name>`: any image model of timm, with or without pretrained weights.

timm is imported only when one of its models is created.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewshot.backbones.base import DEFAULT_INPUT_PX, FAMILIES, FAMILY_CHECKS
from fewshot.backbones.pretrained import describe, download, unknown_model
from fewshot.backbones.weights import load_weights, read_weights, strip_prefix
from fewshot.errors import ConfigError, FewShotError
from fewshot.runtime import seeding

# Arguments of timm.create_model that are set here, or with which a model returns no feature vector.
NOT_OPTIONS = {
    "features_only", "out_indices", "feature_cls", "num_classes", "in_chans", "pretrained", "pretrained_cfg",
    "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit",
}  # fmt: skip


class TimmBody(nn.Module):
    """A timm model without its classifier, which pools its maps itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (n, d)."""
        return self.model(images)

    def maps(self, images: Tensor) -> Tensor:
        """Compute maps (n, c, h, w) before pooling; raises `FewShotError` for models without such maps."""
        maps = self.model.forward_features(images)
        if maps.ndim != 4 or maps.shape[1] != self.model.num_features:
            raise FewShotError(
                f"timm's {type(self.model).__name__} has no feature maps (n, c, h, w): "
                f"it gives {tuple(maps.shape)} before pooling"
            )
        return maps


@FAMILIES.register("timm")
def timm_body(
    name: str,
    in_channels: int,
    input_px: int | None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Create the timm model `name`, https://github.com/huggingface/pytorch-image-models.

    With weights, image size and normalisation are those for which the weights were made (averaged over channels if
    `in_channels` is not 3). A local file may have an older format, another image size or 3 channels: timm converts it.
    `options` are those of `timm.create_model`; `create_backbone` documents the other arguments.
    """
    import timm

    _refuse_foreign(name, options)
    try:
        cfg: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the tag after the dot
        tags = timm.list_models(f"{name.partition('.')[0]}*", pretrained=True)
        raise unknown_model("timm", name, tags) from error
    has_weights = pretrained or weights is not None
    input_px = input_px or (cfg.input_size[-1] if has_weights else DEFAULT_INPUT_PX)
    if cfg.fixed_input_size:
        options.setdefault("img_size", input_px)
    options = options | {"num_classes": 0, "in_chans": in_channels}
    try:
        model = timm.create_model(name, pretrained=False, **options)
    except (TypeError, AssertionError) as error:
        raise ConfigError(f"timm cannot make {name!r} for {input_px} px with {options}: {error}") from error
    _check_patches(name, model, input_px)
    if pretrained:
        model = download(f"timm/{name}", lambda: timm.create_model(name, pretrained=True, **options))
    if weights is not None:
        load_timm_weights(model, read_weights(weights), str(weights), in_channels)
    mean, std = (cfg.mean, cfg.std) if has_weights else (None, None)
    return describe(TimmBody(model), in_channels, input_px, mean, std)


def check_timm(name: str, options: Mapping[str, Any]) -> None:
    """Raise an error for a model that timm does not have, and for options of which it cannot make it."""
    import timm

    _refuse_foreign(name, options)
    if options:  # only the model itself knows its options
        with seeding.fork(0):
            timm.create_model(name, pretrained=False, **options)


FAMILY_CHECKS["timm"] = check_timm


def _refuse_foreign(name: str, options: Mapping[str, Any]) -> None:
    """Raise `FewShotError` for a model that timm does not have, and for options that change what it returns."""
    import timm

    if not timm.is_model(name):
        raise unknown_model("timm", name, timm.list_models())
    if foreign := sorted(NOT_OPTIONS & options.keys()):
        raise ConfigError(f"timm/{name}: with {', '.join(foreign)} it would not return one feature vector")


def _check_patches(name: str, model: Any, input_px: int) -> None:
    """Raise `ConfigError` if patches do not divide the image: the network would ignore the last rows and columns."""
    patches = getattr(model, "patch_embed", None)
    patch_px = max(getattr(patches, "patch_size", None) or (1,))
    if input_px % patch_px and not getattr(patches, "dynamic_img_pad", False):
        below = input_px // patch_px * patch_px
        nearest = f"{below} or {below + patch_px}" if below else str(patch_px)
        raise ConfigError(
            f"timm/{name} cuts images into patches of {patch_px} px, which do not divide {input_px} px: the last "
            f"{input_px % patch_px} rows and columns would be ignored; use {nearest} px"
        )


def load_timm_weights(model: Any, tensors: dict[str, Tensor], source: str, in_channels: int) -> None:
    """Convert weights by timm's rules (older formats, image size, channels), and load them strictly."""
    from timm.models import adapt_input_conv

    tensors = strip_prefix(tensors, model.state_dict().keys(), source)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        tensors = convert(tensors, model)
    for first in _as_tuple(model.pretrained_cfg.get("first_conv")):
        kernel = tensors.get(f"{first}.weight")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3 != in_channels:
            tensors[f"{first}.weight"] = adapt_input_conv(in_channels, kernel)
    load_weights(model, tensors, source, ignore=_as_tuple(model.pretrained_cfg.get("classifier")))


def _as_tuple(names: str | Iterable[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
