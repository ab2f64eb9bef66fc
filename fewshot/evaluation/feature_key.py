"""Describes what the features of a network depend on besides its weights: code, attributes, hooks, further tensors."""

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
import re
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Libraries whose code is identified by their version, and fewshot, by its source files (`feature_store.DECIDING`).
LIBRARIES = {"torch", "timm", "torchvision", "numpy", "fewshot"}
STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]
PLAIN = (
    type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), PurePath, enum.Enum, np.generic,
    re.Pattern, slice, range, torch.dtype, torch.device, torch.memory_format, torch.layout,
)  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
KNOWN = vars(nn.Module()).keys() - set(HOOKS)  # not described: weights are hashed apart, and the mode is evaluation
OF_EVERY_CLASS = {
    "__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__", "__orig_bases__",
    "__parameters__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl",
}  # fmt: skip


class CannotDescribe(Exception):
    """Features may depend on a value for which no description can be made, so they must not be stored."""


def describe_network(network: nn.Module) -> str:
    """Hash everything besides the state dict on which the features of `network` in evaluation mode depend.

    For each module: its class, its attributes, its buffers outside the state dict and its forward hooks. A class that
    is of no known library is described by its code and by the text of the user's files that define it or that these
    import. Raises `CannotDescribe` for a value of an unknown kind, and for code that lies in no file.
    """
    try:
        return _hash(json.dumps(_Description(network).describe_modules()).encode())
    except RecursionError as error:
        raise CannotDescribe(f"{type(network).__name__} holds values nested too deeply to describe") from error


class _Description:
    """Converts values to nested lists of strings and numbers that are equal for equal values in every process."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.names = {id(module): name for name, module in network.named_modules()}
        self.place = type(network).__name__  # name of the value in work, for messages
        self.open: set[int] = set()  # ids of the objects in work, since objects may refer to each other in a circle
        self.files: dict[str, list[str]] = {}  # for each file, hashes of its text and of the user's files it imports

    def describe_modules(self) -> list[Any]:
        """Describe each module by its class, attributes, hooks and further buffers."""
        named = self.network.named_modules()
        return [[name, self._describe_module(name or type(module).__name__, module)] for name, module in named]

    def _describe_module(self, name: str, module: nn.Module) -> list[Any]:
        about: list[Any] = [self.describe_value(type(module))]
        for key, value in sorted(vars(module).items()):
            self.place = f"{name}.{key}"
            if key in HOOKS:  # the keys are numbers that differ in each process
                about.append([key, [self.describe_value(hook) for hook in value.values()]])
            elif key not in KNOWN:
                about.append([key, self.describe_value(value)])
        for key in sorted(module._non_persistent_buffers_set):
            about.append([key, self.describe_value(module._buffers.get(key))])
        return about

    def describe_value(self, value: Any) -> Any:
        """Describe any value; raises `CannotDescribe` if that is impossible."""
        if isinstance(value, PLAIN):
            return [type(value).__qualname__, repr(value)]
        if id(value) in self.open:
            return ["again"]
        self.open.add(id(value))
        try:
            return [type(value).__qualname__, self._describe_composed(value)]
        finally:
            self.open.remove(id(value))

    def _describe_composed(self, value: Any) -> Any:
        """Describe a value that holds other values."""
        if isinstance(value, Tensor):
            return self._describe_tensor(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            return [value.dtype.str, list(value.shape), _hash(value.tobytes())]
        if isinstance(value, Mapping):
            pairs = ([self.describe_value(key), self.describe_value(item)] for key, item in value.items())
            return sorted(pairs, key=json.dumps)
        if isinstance(value, set | frozenset):
            return sorted(map(self.describe_value, value), key=json.dumps)
        if isinstance(value, list | tuple):
            return list(map(self.describe_value, value))
        if isinstance(value, nn.Module):
            return self._describe_other_module(value)
        if isinstance(value, type):
            return self._describe_class(value)
        if callable(value) or isinstance(value, staticmethod | classmethod | property | functools.cached_property):
            called = self._describe_callable(value)
            if called is not None:
                return called
        fields = getattr(value, "__dict__", None)
        if fields is None and dataclasses.is_dataclass(value):  # with slots
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if fields is None:
            kind = type(value).__qualname__
            raise CannotDescribe(f"{self.place} holds a value of type {kind}, whose content cannot be described")
        return [self._describe_class(type(value)), self.describe_value(dict(fields))]

    def _describe_tensor(self, tensor: Tensor) -> list[Any]:
        try:
            data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        except (RuntimeError, NotImplementedError) as error:  # sparse or quantised
            raise CannotDescribe(f"{self.place} holds a tensor that cannot be read ({error})") from error
        return [str(tensor.dtype), list(tensor.shape), _hash(data)]

    def _describe_other_module(self, module: nn.Module) -> Any:
        """Describe a module in an attribute: by its name if the network contains it, else with its weights."""
        if id(module) in self.names:
            return self.names[id(module)]
        return [self.describe_value(dict(module.state_dict())), _Description(module).describe_modules()]

    def _describe_class(self, kind: type) -> list[Any]:
        """Describe a class by its name, and by the content of those of its parents that are of no library."""
        about = []
        for part in kind.__mro__:
            if not _of_library(part.__module__):
                kept = {name: value for name, value in vars(part).items() if not _of_every_class(name, value)}
                about.append([part.__qualname__, self.describe_value(kept)])
        return [kind.__module__ if not about else "", kind.__qualname__, about]

    def _describe_callable(self, value: Any) -> Any:
        """Describe a function or a wrapper of one; None for other callable objects."""
        if isinstance(value, functools.partial):
            return [self.describe_value(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, types.MethodType):
            return [self.describe_value(value.__self__), self.describe_value(value.__func__)]
        if isinstance(value, staticmethod | classmethod):
            return self.describe_value(value.__func__)
        if isinstance(value, property):
            return self.describe_value(value.fget)
        if isinstance(value, functools.cached_property):
            return self.describe_value(value.func)
        if isinstance(value, types.FunctionType):
            return self._describe_function(value)
        if isinstance(value, types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType):
            owner = getattr(value, "__self__", None)
            known = owner is None or isinstance(owner, type | types.ModuleType)
            return [value.__qualname__, None if known else self.describe_value(owner)]
        return None

    def _describe_function(self, function: types.FunctionType) -> list[Any]:
        """Describe a function by its name, or, if it is of no library, by its code, defaults and closure."""
        wrapped = self.describe_value(getattr(function, "__wrapped__", None))
        if _of_library(function.__globals__.get("__name__")):
            return [function.__globals__["__name__"], function.__qualname__, wrapped]
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        closed = {name: _read_cell(cell) for name, cell in cells if name != "__class__"}
        given = [self.describe_value(part) for part in (function.__defaults__, function.__kwdefaults__, closed)]
        return [self._describe_code(function.__code__), given, wrapped, self._hash_texts(function)]

    def _describe_code(self, code: types.CodeType) -> list[Any]:
        constants = [
            self._describe_code(c) if isinstance(c, types.CodeType) else self.describe_value(c) for c in code.co_consts
        ]
        return [code.co_code.hex(), code.co_names, code.co_varnames, constants]

    def _hash_texts(self, function: types.FunctionType) -> list[str]:
        """Hash the file that defines a function and the user's own files that it imports, directly or not."""
        file = function.__globals__.get("__file__")
        if file is None or not Path(file).is_file():
            raise CannotDescribe(f"the code of {function.__qualname__} ({self.place}) lies in no file")
        if file not in self.files:
            texts, waiting = {}, [function.__globals__]
            while waiting:
                module = waiting.pop()
                if module["__file__"] not in texts:
                    texts[module["__file__"]] = _hash(Path(module["__file__"]).read_bytes())
                    waiting += _find_users_modules(module)
            self.files[file] = sorted(set(texts.values()))
        return self.files[file]


def _find_users_modules(module: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Find the user's own modules from which a module holds something; modules are given by their contents."""
    found = map(_find_home, list(module.values()))
    return [contents for contents in found if contents is not None and _is_users_own(contents)]


def _find_home(value: Any) -> dict[str, Any] | None:
    """Find the contents of the module that defines a function or class; of a module, its own contents."""
    if inspect.ismodule(value):
        return vars(value)
    if isinstance(value, types.FunctionType):
        return value.__globals__
    if isinstance(value, type):
        functions = [member for member in vars(value).values() if isinstance(member, types.FunctionType)]
        module = sys.modules.get(value.__module__)
        return functions[0].__globals__ if functions else None if module is None else vars(module)
    return None


def _is_users_own(contents: Mapping[str, Any]) -> bool:
    file = contents.get("__file__")
    if file is None or _of_library(contents.get("__name__")):
        return False
    return Path(file).is_file() and not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _of_library(module_name: str | None) -> bool:
    """Whether the version of Python or of one of `LIBRARIES` identifies the code of a module."""
    root = (module_name or "").partition(".")[0]
    if root not in sys.stdlib_module_names:
        return root in LIBRARIES
    file = getattr(sys.modules.get(root), "__file__", None)  # a user's file may have the name of a standard module
    return file is None or Path(file).is_relative_to(STANDARD_LIBRARY)


def _of_every_class(name: str, value: Any) -> bool:
    return name in OF_EVERY_CLASS or isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is empty
        return None


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
