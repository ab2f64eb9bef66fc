"""What decides the features of a network beside its weights: code, plain attributes, hooks, tensors kept aside."""

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

# Their code is known by their versions, fewshot's by its source files (`feature_store.DECIDING`).
LIBRARIES = {"torch", "timm", "torchvision", "numpy", "fewshot"}
STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"]
PLAIN = (
    type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), PurePath, enum.Enum, np.generic,
    re.Pattern, slice, range, torch.dtype, torch.device, torch.memory_format, torch.layout,
)  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
KNOWN = vars(nn.Module()).keys() - set(HOOKS)  # the state dict has the weights, and the mode is evaluation
OF_EVERY_CLASS = {
    "__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__", "__orig_bases__",
    "__parameters__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl",
}  # fmt: skip


class CannotDescribe(Exception):
    """Something that may decide features and cannot be told from another thing of its kind."""


def describe_network(network: nn.Module) -> str:
    """A hash of everything that decides the features of `network`, in evaluation mode, beside its state dict.

    Of each of its modules: the class, with its code where that is of no known library and with the text of the user's
    own files that the code comes from or imports; attributes; buffers outside of the state dict; forward hooks.
    Raises `CannotDescribe` for a value of an unknown kind, and for code that lies in no file.
    """
    try:
        return _hash(json.dumps(_Description(network).describe_modules()).encode())
    except RecursionError as error:
        raise CannotDescribe(f"{type(network).__name__} holds values that are nested too deeply") from error


class _Description:
    """Values as nested lists of strings and numbers, the same for the same values in every process."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.names = {id(module): name for name, module in network.named_modules()}
        self.place = type(network).__name__  # what is being described, for messages
        self.open: set[int] = set()  # objects that are being described: they may refer to each other in a circle
        self.files: dict[str, list[str]] = {}  # by a file: hashes of its text and of the user's files that it imports

    def describe_modules(self) -> list[Any]:
        """Each module with its class, attributes, hooks and further buffers."""
        named = self.network.named_modules()
        return [[name, self._describe_module(name or type(module).__name__, module)] for name, module in named]

    def _describe_module(self, name: str, module: nn.Module) -> list[Any]:
        about: list[Any] = [self.describe_value(type(module))]
        for key, value in sorted(vars(module).items()):
            self.place = f"{name}.{key}"
            if key in HOOKS:
                about.append(
                    [key, [self.describe_value(hook) for hook in value.values()]]
                )  # their numbers differ each time
            elif key not in KNOWN:
                about.append([key, self.describe_value(value)])
        for key in sorted(module._non_persistent_buffers_set):
            about.append([key, self.describe_value(module._buffers.get(key))])
        return about

    def describe_value(self, value: Any) -> Any:
        """`describe_value` in words and numbers; raises `CannotDescribe`."""
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
        """A value that holds others."""
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
            raise CannotDescribe(f"{self.place} holds a value of type {kind}, which cannot be told from another one")
        return [self._describe_class(type(value)), self.describe_value(dict(fields))]

    def _describe_tensor(self, tensor: Tensor) -> list[Any]:
        try:
            data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        except (RuntimeError, NotImplementedError) as error:  # sparse or quantised
            raise CannotDescribe(f"{self.place} holds a tensor that cannot be read ({error})") from error
        return [str(tensor.dtype), list(tensor.shape), _hash(data)]

    def _describe_other_module(self, module: nn.Module) -> Any:
        """A module that an attribute refers to: one of the network by its name, another one with its weights."""
        if id(module) in self.names:
            return self.names[id(module)]
        return [self.describe_value(dict(module.state_dict())), _Description(module).describe_modules()]

    def _describe_class(self, kind: type) -> list[Any]:
        """A class by its name; parents that are of no library with what they define."""
        about = []
        for part in kind.__mro__:
            if not _of_library(part.__module__):
                kept = {name: value for name, value in vars(part).items() if not _of_every_class(name, value)}
                about.append([part.__qualname__, self.describe_value(kept)])
        return [kind.__module__ if not about else "", kind.__qualname__, about]

    def _describe_callable(self, value: Any) -> Any:
        """A function, or what wraps one; None for an object that can be called."""
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
        """A function by its name; one that is of no library with its code and all that it is given."""
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
        """Hashes of the file that a function stands in and of the user's own files that this one imports from."""
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
    """The contents of the user's own modules of which a module (its contents) holds something."""
    found = map(_find_home, list(module.values()))
    return [contents for contents in found if contents is not None and _is_users_own(contents)]


def _find_home(value: Any) -> dict[str, Any] | None:
    """The contents of the module that a function or class comes from, or of the module itself."""
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
    """Whether the code of a module is known by a version: of Python, or of one of `LIBRARIES`."""
    root = (module_name or "").partition(".")[0]
    if root not in sys.stdlib_module_names:
        return root in LIBRARIES
    file = getattr(sys.modules.get(root), "__file__", None)  # a user's file may bear the name of one of Python's
    return file is None or Path(file).is_relative_to(STANDARD_LIBRARY)


def _of_every_class(name: str, value: Any) -> bool:
    return name in OF_EVERY_CLASS or isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was put into it
        return None


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
