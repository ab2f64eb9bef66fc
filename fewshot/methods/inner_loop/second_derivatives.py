"""Second derivatives of a network: replace functions that torch cannot differentiate twice, or name their layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from fewshot.errors import ConfigError
from fewshot.methods.inner_loop.layer_errors import describe_layer


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


TWICE_DIFFERENTIABLE = {F.hardsigmoid: _hardsigmoid}  # equal functions with second derivatives


class TwiceDifferentiable(TorchFunctionMode):
    """Within the block the functions in `TWICE_DIFFERENTIABLE` have second derivatives."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return TWICE_DIFFERENTIABLE.get(func, func)(*args, **(kwargs or {}))


def use_differentiable_attention() -> Any:
    """Make a context in which attention has second derivatives, which its fused kernels lack."""
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def name_missing_derivative(network: nn.Module, images: Callable[[], Tensor], method: str) -> Iterator[None]:
    """Within the block an error about a missing second derivative becomes a `ConfigError` with the name of the layer.

    To find the layer, `network` runs on the result of `images`: prepared images (n, C, H, W).
    """
    try:
        yield
    except RuntimeError as error:
        if not _tells_missing_derivative(error):
            raise
        raise ConfigError(
            f"{method}: order=2 needs second derivatives, which torch does not have for the layer "
            f"{_find_layer(network, images())}: {error}. order=1 does not need them"
        ) from error


def _tells_missing_derivative(error: Exception) -> bool:
    return "derivative for" in str(error) and "is not implemented" in str(error)


def _find_layer(network: nn.Module, images: Tensor) -> str:
    """Find the innermost layer of `network` that cannot be differentiated twice."""
    calls = []  # (name, layer, inputs) in the order in which layers finish, so inner layers come first

    def note(name: str) -> Callable[..., None]:
        return lambda layer, inputs, _: calls.append((name, layer, inputs))

    hooks = [layer.register_forward_hook(note(name)) for name, layer in network.named_modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    failing = (describe_layer(name, layer) for name, layer, inputs in calls if not _differentiates_twice(layer, inputs))
    return next(failing, "whose name is not known")


def _differentiates_twice(layer: nn.Module, inputs: tuple[Any, ...]) -> bool:
    if not all(isinstance(value, Tensor) and value.is_floating_point() for value in inputs):
        return True  # it cannot be tested alone; an enclosing layer will be
    leaves = [value.detach().requires_grad_() for value in inputs]
    with torch.enable_grad(), TwiceDifferentiable(), use_differentiable_attention():
        try:
            output = layer(*(leaf * 1 for leaf in leaves))  # an in-place function must not change a leaf
            first = torch.autograd.grad(output.sin().sum(), leaves, create_graph=True, allow_unused=True)
            total = torch.stack([g.sin().sum() for g in first if g is not None]).sum()
            torch.autograd.grad(total, leaves, allow_unused=True)
        except (RuntimeError, AttributeError) as error:
            return not _tells_missing_derivative(error)
    return True
