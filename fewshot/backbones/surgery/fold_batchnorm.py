"""Fold batch normalisation into the convolutions before it, which makes inference faster."""

import copy
import logging
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

logger = logging.getLogger(__name__)
TOLERANCE = 0.01  # relative to the features' length; rounding changes them by 1e-6 (TensorFloat-32: 1e-3)


@torch.no_grad()
def fold_batchnorm(module: nn.Module, images: Tensor) -> nn.Module:
    """Copy `module` for inference, with each batch normalisation folded into the convolution before it.

    `images`: a few example inputs (n, C, H, W), which are passed through to find which layer follows which. Returns the
    module itself if nothing can be folded, or if the features of these images would change. Jacob et al. 2018,
    https://arxiv.org/abs/1712.05877, section 3.2.
    """
    if module.training:
        return module
    made = copy.deepcopy(module)
    pairs = _find_followed(made, images)
    if not pairs:
        return module
    for convolution, normalisation in pairs:
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, normalisation.running_mean, normalisation.running_var,
            normalisation.eps, normalisation.weight, normalisation.bias, transpose=False,
        )  # fmt: skip
        convolution.weight, convolution.bias = weight, bias
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if any(child is normalisation for _, normalisation in pairs):
                setattr(parent, name, _keep_rest(child))
    before, after = module(images).float(), made(images).float()
    if (after - before).norm() > TOLERANCE * before.norm():
        logger.warning("%s: batch normalisation is not folded, its features would change", type(module).__name__)
        return module
    return made


def _find_followed(module: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find pairs of a convolution and the normalisation whose input is its output, if each runs only in this pair."""
    given: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # by id of the output, kept so that no id is reused
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note_output(convolution: nn.Conv2d, _: object, output: Tensor) -> None:
        given[id(output)] = convolution, output

    def match_input(normalisation: nn.BatchNorm2d, arguments: tuple[Tensor]) -> None:
        if id(arguments[0]) in given and normalisation.running_mean is not None:
            pairs.append((given[id(arguments[0])][0], normalisation))

    hooks = [m.register_forward_hook(note_output) for m in module.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(match_input) for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    module(images)
    for hook in hooks:
        hook.remove()
    pairs = list(dict.fromkeys(pairs))
    times = Counter(part for pair in pairs for part in pair)
    return [pair for pair in pairs if times[pair[0]] == times[pair[1]] == 1]


def _keep_rest(normalisation: nn.BatchNorm2d) -> nn.Module:
    """Make a module of what follows the normalisation inside it: timm's layers include dropout and activation."""
    rest = [getattr(normalisation, name) for name in ("drop", "act") if hasattr(normalisation, name)]
    rest = [part for part in rest if not isinstance(part, nn.Identity)]
    for part in rest:
        if hasattr(part, "inplace"):
            part.inplace = True  # nothing else uses the output of the convolution
    return nn.Sequential(*rest)
