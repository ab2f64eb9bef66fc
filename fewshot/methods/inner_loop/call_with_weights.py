"""A network called with other weights than its own."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def call_with_weights(network: nn.Module, weights: dict[str, Tensor], *inputs: Any) -> Any:
    """`network(*inputs)` with `weights`, by the names of `named_parameters`, in the place of its own.

    A weight that several layers share is replaced in all of them. torch's `functional_call` does so too, but a layer
    that stands in several places it leaves with the other weight for good (2.14: it puts back the last thing it
    found); so each layer is named once here.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    everywhere = {}
    for path, layer in network.named_modules():  # each layer once
        for key, parameter in layer._parameters.items():
            name = names.get(id(parameter))
            if name in weights:
                everywhere[f"{path}.{key}" if path else key] = weights[name]
    return functional_call(network, everywhere, inputs, tie_weights=False)
