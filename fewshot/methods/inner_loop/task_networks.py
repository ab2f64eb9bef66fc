"""Find out whether a network can run several tasks at once, each with its own weights."""

from typing import cast

import torch
from torch import nn
from torch.func import functional_call

from fewshot.methods.inner_loop.episode_statistics import BATCH_NORMS, norms_in_eval
from fewshot.methods.inner_loop.layer_errors import RAISED_BY_LAYERS
from fewshot.methods.inner_loop.taskwise import TaskWise
from fewshot.runtime import seeding

LAYERS = (nn.Conv2d, nn.Linear, BATCH_NORMS)  # whose weights may differ between tasks
PLAIN_FORWARD = {nn.Conv2d.forward, nn.Linear.forward, BATCH_NORMS.forward}


def runs_tasks_together(network: nn.Module) -> bool:
    """Whether every parameter of `network` belongs to a layer that supports different weights for each task."""
    layers = [layer for layer in network.modules() if isinstance(layer, LAYERS) and layer._parameters]
    layered = {id(p) for layer in layers if _takes_task_weights(layer) for p in layer.parameters(recurse=False)}
    return all(id(p) in layered for p in network.parameters())


@torch.no_grad()
def _takes_task_weights(layer: nn.Module) -> bool:
    """Whether `layer` computes the same for two tasks at once as for each of them alone.

    This is known for torch's own layers. Others are tested: layers that also pad or activate usually work, but layers
    that transform their weights before using them support the weights of only one task.
    """
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    if type(layer).forward in PLAIN_FORWARD and not hooks:
        return True
    generator = seeding.generator(0, "weights of two tasks")
    weights = {
        name: p + 0.1 * torch.randn(2, *p.shape, generator=generator).to(p)
        for name, p in layer.named_parameters(recurse=False)
    }
    inputs = torch.randn(4, *_find_input_shape(layer), generator=generator).to(next(iter(weights.values())))
    try:
        with norms_in_eval(layer):
            with TaskWise(2, 2):
                together = functional_call(layer, weights, (inputs,))
            singly = []
            for task, rows in enumerate(inputs.split(2)):
                with TaskWise(1, 2):
                    own = {name: weight[task] for name, weight in weights.items()}
                    singly.append(functional_call(layer, own, (rows,)))
    except RAISED_BY_LAYERS:
        return False
    return torch.allclose(together, torch.cat(singly), rtol=1e-3, atol=1e-4)


def _find_input_shape(layer: nn.Module) -> tuple[int, ...]:
    """Find the shape of an input for `layer`, one of `LAYERS`."""
    if isinstance(layer, nn.Linear):
        return (layer.in_features,)
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, *(2 * d * k for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    sides = 0 if isinstance(layer, nn.BatchNorm1d) else 3 if isinstance(layer, nn.BatchNorm3d) else 2
    return (cast(nn.BatchNorm2d, layer).num_features, *[3] * sides)
