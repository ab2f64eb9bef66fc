"""One typed command line for every script: a dataclass gives the options, YAML recipes the values."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, set_parsing_settings

from fewshot.errors import FewShotError
from fewshot.runtime.memory import reuse_freed_memory
from fewshot.runtime.terminal import settle_streams, visible_text

Config = TypeVar("Config")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Parser(ArgumentParser):
    """Answers an unknown option or recipe key with the nearest known one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one sentence, without the usage, and exit with status 2."""
        known = [action.dest for action in self._actions]
        words = re.findall(r"--([\w.]+)|(?:key|option) ['\"]([\w.]+)['\"]", message, flags=re.IGNORECASE)
        unknown = [word for pair in words for word in pair if word and word not in known]
        near = [near for word in unknown for near in difflib.get_close_matches(word, known, n=1)]
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"error: {' '.join(message.split())}.{hint}\nSee --help for all options.", file=sys.stderr)
        raise SystemExit(2)


def parse(
    config: type[Config], description: str, arguments: Sequence[str] | None = None, *, positional: bool = False
) -> Config:
    """The dataclass `config` with values from --config FILE and from the command line, later ones winning.

    `positional`: fields without a default are given by their place, `compare.py RUN_A RUN_B`.
    """
    required = [f.name for f in dataclasses.fields(config) if f.default is f.default_factory is dataclasses.MISSING]
    places = "".join(f"{name.upper()} " for name in required if positional)
    usage = f"%(prog)s {places}[--config FILE] [--OPTION VALUE …]"
    parser = Parser(description=description, usage=usage, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="recipe: a YAML file of these options")
    taken: set[str] = set()
    for part in config.__mro__[:-1]:  # a base class's fields are a group of their own, after the class's own
        inherited = {field.name for base in part.__mro__[1:-1] for field in dataclasses.fields(base)}
        parser.add_class_arguments(part, skip=inherited | taken, as_positional=positional)
        taken |= {field.name for field in dataclasses.fields(part)} - inherited
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # --resume alone means --resume true
            action.nargs, action.const = "?", True
    values = parser.parse_args(arguments).as_dict()
    return config(**{field.name: values[field.name] for field in dataclasses.fields(config)})


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a script: an error meant for the user becomes one sentence on stderr and exit status 2."""
    reuse_freed_memory()
    settle_streams()
    try:
        main()
    except FewShotError as error:
        print(f"error: {visible_text(error, keep=chr(10))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)
