"""Call a network with other weights than its own."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def call_with_weights(network: nn.Module, weights: dict[str, Tensor], *inputs: Any) -> Any:
    """Call `network(*inputs)` with `weights`, named as in `named_parameters`, instead of its own.

    A weight that several layers share is replaced in all of them. torch's `functional_call` does this too, but does not
    restore the weight of a layer that occurs in several places (2.14); so each layer is named once here.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    everywhere = {}
    for path, layer in network.named_modules():  # each layer once
        for key, parameter in layer._parameters.items():
            name = names.get(id(parameter))
            if name in weights:
                everywhere[f"{path}.{key}" if path else key] = weights[name]
    return functional_call(network, everywhere, inputs, tie_weights=False)
