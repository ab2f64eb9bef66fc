"""`torchvision/<name>`: an image classifier of torchvision, with or without pretrained weights.

torchvision is imported only when one of its models is created.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewshot.backbones.base import DEFAULT_INPUT_PX, FAMILIES, FAMILY_CHECKS
from fewshot.backbones.pretrained import describe, download, unknown_model
from fewshot.backbones.weights import load_weights, read_weights
from fewshot.errors import ConfigError, FewShotError
from fewshot.runtime import seeding

MORE_THAN_ONE_OUTPUT = ("googlenet", "inception_v3")  # they have auxiliary classifiers in training


class TorchvisionBody(nn.Module):
    """A torchvision model without its classifier, which pools its maps itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Compute features (n, d)."""
        return self.model(images)

    def maps(self, images: Tensor) -> Tensor:
        """Compute maps (n, c, h, w), the input of the model's `avgpool`; raises `FewShotError` if it has none."""
        children = dict(self.model.named_children())
        if "avgpool" not in children:
            raise FewShotError(f"torchvision's {type(self.model).__name__} has no feature maps: no `avgpool`")
        for name, child in children.items():
            if name == "avgpool":
                break
            images = child(images)
        return images


@FAMILIES.register("torchvision")
def torchvision_body(
    name: str,
    in_channels: int,
    input_px: int | None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Create the torchvision model `name`, https://docs.pytorch.org/vision/stable/models.html.

    Its last linear layer is removed. With weights, image size and normalisation are those of the model's default
    weights. `options` are those of `torchvision.models.get_model`; `create_backbone` documents the other arguments.
    """
    from torchvision import models

    _refuse_unknown(name)
    if in_channels != 3:
        raise ConfigError(
            f"torchvision/{name} takes 3 channels, not {in_channels}; grey images are repeated to 3, "
            f"or use timm/{name} if timm has it"
        )
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    has_weights = pretrained or weights is not None
    input_px = input_px or (transforms.crop_size[0] if has_weights else DEFAULT_INPUT_PX)
    if name.startswith("vit_"):
        options.setdefault("image_size", input_px)
    try:
        model = models.get_model(name, weights=None, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"torchvision cannot make {name!r} for {input_px} px, {options}: {error}") from error
    if pretrained:
        model = download(f"torchvision/{name}", lambda: models.get_model(name, weights="DEFAULT", **options))
    classifier = _remove_classifier(model, name)
    if weights is not None:
        load_weights(model, read_weights(weights), str(weights), ignore=[classifier])
    mean, std = (transforms.mean, transforms.std) if has_weights else (None, None)
    return describe(TorchvisionBody(model), in_channels, input_px, mean, std)


def check_torchvision(name: str, options: Mapping[str, Any]) -> None:
    """Raise an error for a model that torchvision does not have, and for options of which it cannot make it."""
    from torchvision import models

    _refuse_unknown(name)
    if options:  # only the model itself knows its options
        with seeding.fork(0):
            models.get_model(name, weights=None, **options)


FAMILY_CHECKS["torchvision"] = check_torchvision


def _refuse_unknown(name: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown_model("torchvision", name, known)


def _remove_classifier(model: nn.Module, name: str) -> str:
    """Replace the last linear layer by the identity, and return its name."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or name in MORE_THAN_ONE_OUTPUT:
        raise ConfigError(f"torchvision/{name} has no single linear classifier to remove; use another model")
    model.set_submodule(linear[-1], nn.Identity())
    return linear[-1]
