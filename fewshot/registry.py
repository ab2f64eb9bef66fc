"""One registry per kind of thing (methods, backbones, data sets): names, factories, and the options that they take."""

import difflib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

from fewshot.errors import ConfigError, UnknownNameError

ANYTHING = inspect.Parameter.empty  # the type of an option without an annotation, the default of one that has none
PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error that says which names exist and which of them is nearest to `name`."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


@dataclass(frozen=True)
class Option:
    """One option: its annotated type, its default, and what the docstring says of it (`Args:`, Google's style)."""

    name: str
    type: Any = ANYTHING
    default: Any = ANYTHING
    text: str = ""


@dataclass(frozen=True)
class Options:
    """The options of one thing, `owner`, such as "method 'maml'". `open`: it also takes others, and checks them."""

    owner: str
    known: Mapping[str, Option]
    open: bool = False

    def check(self, given: Mapping[str, Any]) -> None:
        """Raise `UnknownNameError` for a name that is no option, `ConfigError` for a value of the wrong type."""
        for name, value in given.items():
            if name not in self.known:
                if not self.open:
                    raise unknown_name(f"option of {self.owner}:", str(name), self.known)
            elif not fits(value, self.known[name].type):
                expected = describe_type(self.known[name].type)
                raise ConfigError(f"{self.owner}: {name} must be {expected}, got {value!r}")


class Registry:
    """Maps names to factories; a duplicate name raises, an unknown name lists the known ones.

    Where a name is written with hyphens, underscores do as well.

    Args:
        kind: what is registered, for messages.
        n_given: how many of a factory's first parameters are no options: the program gives them (a method's backbone).
    """

    def __init__(self, kind: str, n_given: int = 0) -> None:
        self.kind, self.n_given = kind, n_given
        self._factories: dict[str, Callable[..., Any]] = {}
        self._summaries: dict[str, str] = {}

    def register(
        self, name: str, factory: Callable[..., Any] | None = None, summary: str | None = None
    ) -> Callable[..., Any]:
        """Add `factory` under `name`; without a factory, a decorator that does so.

        `summary`: one line that says what it is (default: the first line of its docstring).
        """
        if factory is None:
            return lambda decorated: self.register(name, decorated, summary)
        if name in self._factories:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._factories[name] = factory
        self._summaries[name] = summary or (inspect.getdoc(unwrap(factory)) or "").partition("\n")[0]
        return factory

    def create(self, name: str, *given: Any, **options: Any) -> Any:
        """What the factory `name` makes of `given` and of `options`, whose names and types are checked first."""
        self.options(name).check(options)
        return self[name](*given, **options)

    def options(self, name: str) -> Options:
        """The options that `create` takes for `name`."""
        return options_of(self[name], f"{self.kind} {name!r}", self.n_given)

    def summary(self, name: str) -> str:
        """One line that says what is registered under `name`."""
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


def options_of(factory: Callable[..., Any], owner: str, n_given: int = 0, hidden: Iterable[str] = ()) -> Options:
    """The options of a class, a function or a `partial`: its parameters but the first `n_given` and the `hidden`."""
    try:
        parameters = list(inspect.signature(factory, eval_str=True).parameters.values())
    except NameError:  # a plugin's annotation that only type checkers can resolve
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
    """What the section `Args:` of the docstring, of the class or of its `__init__`, says of each argument."""
    own_init = vars(factory).get("__init__") if inspect.isclass(factory) else None
    texts: dict[str, str] = {}
    for doc in (inspect.getdoc(factory), inspect.getdoc(own_init) if own_init else None):
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc or "", flags=re.MULTILINE)
        for name, text in re.findall(r"^    (\w+):((?: .*)?\n?(?:     +.*\n?)*)", section[1] if section else "", re.M):
            texts[name] = " ".join(text.split())
    return texts


def fits(value: Any, kind: Any) -> bool:
    """Whether a value, as YAML or Python gives it, is of an annotated type; of one that is not understood, any is."""
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
    """An annotated type in words: "a whole number or null", "one of cosine, linear"."""
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
        return "a mapping of names to values"
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(map(describe_type, arguments))}"
    if issubclass(kind, Sequence | Set):
        element = describe_type(arguments[0]) if arguments else "any value"
        return f"a list of {PLURALS.get(element, f'values, each {element}')}"
    return f"a {kind.__name__}"
