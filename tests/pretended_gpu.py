"""A simulated GPU: tensors report that they are on it, but their values are in the memory of the CPU.

Unlike fake tensors they return numbers that the host asks for, so a method runs to its end, gradients included. An
operation on one of them and a tensor that was left on the CPU raises an error.
"""

from typing import Any, Self

import pytest
import torch
import torch._dynamo  # optimisers import it when first made, and it looks at what is patched below
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
CROSSING = (Tensor.copy_, Tensor.type_as, torch._has_compatible_shallow_copy_type)  # take tensors of two devices
INDEXING = (Tensor.__getitem__, Tensor.__setitem__)  # of a tensor on the GPU by rows on the CPU
SELECTING = (torch.nonzero, Tensor.nonzero, torch.masked_select, Tensor.masked_select, torch.unique, Tensor.unique)
NUMBERS = (Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__)


class PretendedGPU(TorchFunctionMode):
    """Within the block tensors created without a device are on the CPU and all others, also existing ones, on `GPU`.

    An operation on both raises `RuntimeError`, as in torch. `waits`: how often the host asked for a number or a shape,
    or waited for a copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.patches = 0, pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        from_numpy, subclassed = torch.from_numpy, Tensor._make_subclass  # which no mode sees
        self.patches.setattr(torch, "from_numpy", lambda array: placed(from_numpy(array), True))
        as_parameter = staticmethod(lambda kind, data, *more: placed(subclassed(kind, data, *more), on_host(data)))
        self.patches.setattr(Tensor, "_make_subclass", as_parameter)
        self.patches.setattr(torch._C._nn, "_parse_to", parsed)  # of `nn.Module.to`
        autocast_on_the_cpu(self.patches, GPU.type)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.patches.undo()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in PROPERTIES:
            return PROPERTIES[func](args[0])
        if func == Tensor.data.__set__:
            args[0].on_host = on_host(args[1])
            return func(*args)
        if func is Tensor.pin_memory:
            return args[0]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if (func in NUMBERS or func in SELECTING or selects(func, args)) and not on_host(args[0]):
            self.waits += 1
        if func is Tensor.numpy and not on_host(args[0]):
            raise TypeError("can't convert a tensor on the GPU to numpy")
        if func is Tensor.cpu:
            return self.moved(args[0], CPU)
        if func is Tensor.to:
            return self.moved(*args, **kwargs)
        device = kwargs.pop("device", None)
        host = torch.device(device) == CPU if device is not None else common(func, given)
        generator = kwargs.get("generator")
        if generator is not None and not host:
            raise RuntimeError("a generator of the CPU draws for the GPU")
        result = func(*args, **kwargs)
        known = set(map(id, given))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf) not in known:
                placed(leaf, host)
        return result

    def moved(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Implement `Tensor.to`."""
        device, dtype, unwaited, layout = parsed(*args, **kwargs)
        host = on_host(tensor) if device is None else device.type == "cpu"
        result = tensor.to(dtype or tensor.dtype, memory_format=layout or torch.preserve_format)
        if host == on_host(tensor):
            return result if result is tensor else placed(result, host)
        if host and unwaited:
            raise RuntimeError("a copy to the host for which nobody waits may be read before it is there")
        self.waits += not unwaited
        return placed(result.clone() if result is tensor else result, host)


def autocast_on_the_cpu(patches: pytest.MonkeyPatch, device_type: str) -> None:
    """Let the CPU's autocast stand in for that of `device_type`, which torch does not have here."""
    autocast, is_enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def known(device: str) -> str:
        return "cpu" if device == device_type else device

    patches.setattr(torch, "autocast", lambda device, *args, **kwargs: autocast(known(device), *args, **kwargs))
    patches.setattr(torch, "is_autocast_enabled", lambda *device: is_enabled(*map(known, device)))
    patches.setattr(torch, "get_autocast_dtype", lambda device: dtype(known(device)))


def on_host(tensor: Tensor) -> bool:
    return getattr(tensor, "on_host", False)


def placed(tensor: Tensor, host: bool) -> Tensor:
    tensor.on_host = host
    return tensor


def parsed(*args: Any, **kwargs: Any) -> tuple[torch.device | None, torch.dtype | None, bool, Any]:
    """Parse the arguments of `to`: device, dtype, non_blocking and the memory format."""
    device, *rest = PARSE(*args, **kwargs)
    if args and isinstance(args[0], Tensor):
        device = CPU if on_host(args[0]) else GPU
    return device, *rest


def selects(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether a mask on the GPU says which rows are taken, so that the shape of the result is not known beforehand.

    Whoever sets one number by a mask does not wait: torch fills by the mask.
    """
    if func not in INDEXING or (func is Tensor.__setitem__ and not (is_tensor(args[2]) and args[2].ndim)):
        return False
    return any(is_tensor(at) and at.dtype == torch.bool and not on_host(at) for at in tree_leaves(args[1]))


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def common(func: Any, tensors: list[Tensor]) -> bool:
    """Whether the result is on the CPU; raises if tensors are on both devices."""
    if func in INDEXING and tensors:
        if on_host(tensors[0]) and not all(map(on_host, tensors)):
            raise RuntimeError(f"{func.__name__}: the tensor is on the CPU, its index on the GPU")
        return on_host(tensors[0])
    if func in CROSSING:
        return on_host(tensors[0])
    large = {on_host(tensor) for tensor in tensors if tensor.ndim}
    if len(large) > 1:
        raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors on two devices, the CPU and the GPU")
    if large:
        return large.pop()
    return all(map(on_host, tensors))


PARSE = torch._C._nn._parse_to
PROPERTIES = {
    Tensor.device.__get__: lambda tensor: CPU if on_host(tensor) else GPU,
    Tensor.is_cuda.__get__: lambda tensor: not on_host(tensor),
    Tensor.is_cpu.__get__: on_host,
}
