"""Registries of methods, backbones and data sets: each maps names to factories and checks the factories' options."""

import difflib
import inspect
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any
from weakref import WeakSet

from fewshot.errors import ConfigError, UnknownNameError

ANYTHING = inspect.Parameter.empty  # the type of an option without annotation; the default of a required option
PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Make an error that lists the known names and suggests the one nearest to `name`."""
    known = sorted(known)
    name = str(name)[:200]  # of a file from anybody
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


@dataclass(frozen=True)
class Option:
    """An option: its annotated type, its default, and its description in the section `Args:` of the docstring."""

    name: str
    type: Any = ANYTHING
    default: Any = ANYTHING
    text: str = ""


@dataclass(frozen=True)
class Options:
    """The options of `owner`, such as "method 'maml'".

    `open`: `owner` has a parameter `**options`, so it accepts other names too and checks them itself.
    """

    owner: str
    known: Mapping[str, Option]
    open: bool = False

    def check(self, given: Mapping[str, Any]) -> None:
        """Raise `UnknownNameError` for an unknown option, `ConfigError` for a wrong type and for nan and infinity."""
        for name, value in given.items():
            if name not in self.known:
                if not self.open:
                    raise unknown_name(f"option of {self.owner}:", str(name), self.known)
            elif not fits(value, self.known[name].type):
                expected = describe_type(self.known[name].type)
                raise ConfigError(f"{self.owner}: {name} must be {expected}, got {value!r}")
            if not is_finite(value):
                raise ConfigError(f"{self.owner}: {name} must be finite, got {value!r}")


class Registry:
    """Maps names to factories. A name cannot be registered twice; the error for an unknown name lists the known ones.

    A registered name with hyphens is also found with underscores in their place.

    Args:
        kind: what is registered, such as "method"; error messages use it.
        n_given: number of leading parameters that the program passes, such as a method's backbone: they are no options.
    """

    def __init__(self, kind: str, n_given: int = 0) -> None:
        self.kind, self.n_given = kind, n_given
        self._factories: dict[str, Callable[..., Any]] = {}
        self._summaries: dict[str, str] = {}
        _registries.add(self)

    def register(
        self, name: str, factory: Callable[..., Any] | None = None, summary: str | None = None
    ) -> Callable[..., Any]:
        """Add `factory` under `name`; without a factory, return a decorator that does so.

        `summary`: one line that describes it (default: the first line of its docstring).
        """
        if factory is None:
            return lambda decorated: self.register(name, decorated, summary)
        if name in self._factories:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._factories[name] = factory
        self._summaries[name] = summary or (inspect.getdoc(unwrap(factory)) or "").partition("\n")[0]
        return factory

    def create(self, name: str, *given: Any, **options: Any) -> Any:
        """Check the names and types of `options`, then call the factory `name` with `given` and `options`."""
        self.options(name).check(options)
        return self[name](*given, **options)

    def options(self, name: str) -> Options:
        """The options that `create` takes for `name`."""
        return options_of(self[name], f"{self.kind} {name!r}", self.n_given)

    def summary(self, name: str) -> str:
        """One line that describes what is registered under `name`."""
        return self._summaries[name]

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self:
            raise unknown_name(self.kind, name, self._factories)
        return self._factories.get(name) or self._factories[name.replace("_", "-")]

    def __contains__(self, name: str) -> bool:
        return name in self._factories or name.replace("_", "-") in self._factories

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)


_registries: WeakSet[Registry] = WeakSet()


@contextmanager
def undo_registrations_on_error() -> Iterator[None]:
    """If the block raises, remove the names that it registered, from every registry.

    A module that the block imported and that defines one of these factories is removed from `sys.modules`, so that the
    next import registers its names again.
    """
    before, imported = {registry: set(registry._factories) for registry in _registries}, set(sys.modules)
    try:
        yield
    except BaseException:
        for registry, names in before.items():
            for name in registry._factories.keys() - names:
                module = getattr(unwrap(registry._factories.pop(name)), "__module__", "")
                del registry._summaries[name]
                if module not in imported and not module.startswith("fewshot."):
                    sys.modules.pop(module, None)
        raise


def options_of(factory: Callable[..., Any], owner: str, n_given: int = 0, hidden: Iterable[str] = ()) -> Options:
    """List the parameters of a class, function or `partial` as options, without `hidden` and the first `n_given`."""
    try:
        parameters = list(inspect.signature(factory, eval_str=True).parameters.values())
    except NameError:  # a plugin may have annotations that only type checkers can resolve
        parameters = list(inspect.signature(factory).parameters.values())
    texts = read_argument_texts(unwrap(factory))
    known = {
        p.name: Option(p.name, p.annotation, p.default, texts.get(p.name, ""))
        for p in parameters[n_given:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in hidden
    }
    return Options(owner, known, any(p.kind is p.VAR_KEYWORD for p in parameters))


def unwrap(factory: Callable[..., Any]) -> Callable[..., Any]:
    """The class or function that a `partial` calls."""
    while isinstance(factory, partial):
        factory = factory.func
    return factory


def read_argument_texts(factory: Callable[..., Any]) -> dict[str, str]:
    """Read the description of each argument from the section `Args:` of a function, or of a class and its bases.

    A class takes precedence over its bases.
    """
    documented = [factory]
    if inspect.isclass(factory):
        documented = [part for kind in reversed(factory.__mro__) for part in (vars(kind).get("__init__"), kind) if part]
    texts: dict[str, str] = {}
    for doc in (part.__doc__ and inspect.cleandoc(part.__doc__) for part in documented):
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc or "", flags=re.MULTILINE)
        for name, text in re.findall(r"^    (\w+):((?: .*)?\n?(?:     +.*\n?)*)", section[1] if section else "", re.M):
            texts[name] = " ".join(text.split())
    return texts


def is_finite(value: Any) -> bool:
    """Whether a value contains no nan and no infinity; lists and mappings are searched."""
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    if isinstance(value, list | tuple | set):
        return all(map(is_finite, value))
    return not isinstance(value, Real) or isinstance(value, Integral) or math.isfinite(value)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value from YAML or Python has an annotated type; types that are not understood accept every value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if kind in (None, type(None)):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    kind = origin or kind
    if not inspect.isclass(kind) or kind in (Any, ANYTHING) or getattr(kind, "_is_protocol", False):
        return True
    if issubclass(kind, os.PathLike):
        return isinstance(value, str | os.PathLike)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(fits(v, arguments[1]) for v in value.values() if len(arguments) == 2)
    if kind is not str and issubclass(kind, Sequence | Set):
        return isinstance(value, list | tuple | set) and _elements_fit(value, kind, arguments)
    return isinstance(value, kind)


def _elements_fit(value: Iterable[Any], kind: type, arguments: tuple[Any, ...]) -> bool:
    values = list(value)
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        return len(values) == len(arguments) and all(map(fits, values, arguments))
    return not arguments or all(fits(one, arguments[0]) for one in values)


def describe_type(kind: Any) -> str:
    """Describe an annotated type in words, such as "a whole number or null" or "one of cosine, linear"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe_type, arguments))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if kind is None or kind in WORDS:
        return WORDS[type(None) if kind is None else kind]
    kind = origin or kind
    if not inspect.isclass(kind) or kind in (Any, ANYTHING):
        return "any value"
    if issubclass(kind, os.PathLike):
        return "a path"
    if issubclass(kind, Mapping):
        nested = arguments and typing.get_origin(arguments[-1]) is dict
        return f"a mapping of names to {'mappings' if nested else 'values'}"
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(map(describe_type, arguments))}"
    if issubclass(kind, Sequence | Set):
        element = describe_type(arguments[0]) if arguments else "any value"
        return f"a list of {PLURALS.get(element, f'values, each {element}')}"
    return f"a {kind.__name__}"
