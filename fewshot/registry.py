"""One registry per kind of thing: methods, backbones, data sets."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from fewshot.errors import UnknownNameError


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """An error that says which names exist and which of them is nearest to `name`."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class Registry:
    """Maps names to factories; a duplicate name raises, an unknown name lists the known ones.

    Where a name is written with hyphens, underscores do as well.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., Any]] = {}

    def register(self, name: str, factory: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Add `factory` under `name`; without a factory, a decorator that does so."""
        if factory is None:
            return lambda decorated: self.register(name, decorated)
        if name in self._factories:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._factories[name] = factory
        return factory

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self:
            raise unknown_name(self.kind, name, self._factories)
        return self._factories.get(name) or self._factories[name.replace("_", "-")]

    def __contains__(self, name: str) -> bool:
        return name in self._factories or name.replace("_", "-") in self._factories

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)
