"""One typed command line for every script: a dataclass gives the options, YAML recipes the values."""

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from fewshot.config.recipes import read_recipe
from fewshot.errors import ConfigError, FewShotError
from fewshot.runtime.memory import reuse_freed_memory

Config = TypeVar("Config")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Parser(ArgumentParser):
    """Reads recipes, and answers an unknown option or recipe key with the nearest known one.

    `kind`: of the recipes that it reads, "" where its YAML files are none; `row`: the row of the recipe that is asked.
    """

    kind: str = ""
    row: str | None = None

    def parse_path(self, path: str | PathLike, *arguments: Any, **options: Any) -> Namespace:
        """The values in a YAML file, which may be a recipe with rows, or extend another."""
        if not self.kind:
            return super().parse_path(path, *arguments, **options)
        entry = read_recipe(Path(path), self.kind).entry(self.row, self.kind)
        return self.parse_string(yaml.safe_dump(entry.options, sort_keys=False), Path(path).name, *arguments, **options)

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
    parser.kind = str(getattr(config, "kind", ""))
    if parser.kind:
        parser.add_argument("--row", help="row of the recipe, in the place of its training")
        parser.row = _row(arguments)
    taken: set[str] = set()
    for part in config.__mro__[:-1]:  # a base class's fields are a group of their own, after the class's own
        inherited = {field.name for base in part.__mro__[1:-1] for field in dataclasses.fields(base)}
        parser.add_class_arguments(part, skip=inherited | taken, as_positional=positional)
        taken |= {field.name for field in dataclasses.fields(part)} - inherited
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # --resume alone means --resume true
            action.nargs, action.const = "?", True
    values = parser.parse_args(arguments).as_dict()
    if parser.row is not None and not values["config"]:
        raise ConfigError(f"--row {parser.row} is a row of a recipe: name its file with --config")
    return config(**{field.name: values[field.name] for field in dataclasses.fields(config)})


def _row(arguments: Sequence[str] | None) -> str | None:
    """What --row says, which decides what is read from --config, wherever it stands."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--row")
    return parser.parse_known_args(arguments)[0].row


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a script: an error meant for the user becomes one sentence on stderr and exit status 2."""
    reuse_freed_memory()
    try:
        main()
    except FewShotError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)
