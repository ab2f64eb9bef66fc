"""The typed command line of all commands: a dataclass declares the options, recipes and arguments give the values."""

import argparse
import dataclasses
import difflib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from fewshot.config.recipes import read_recipe
from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError, FewShotError
from fewshot.registry import describe_type
from fewshot.runtime.memory import reuse_freed_memory
from fewshot.runtime.terminal import report_error, settle_streams, visible_text

Config = TypeVar("Config")

IN_YAML = {"None": "null", "True": "true", "False": "false"}

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class Parser(ArgumentParser):
    """Parses options and recipes; for an unknown option or recipe key it suggests the nearest known one.

    `kind`: the kind of recipe that --config reads, or "" if --config reads a plain YAML file of options.
    `row`: the row that is read from the recipe; None reads its training.
    """

    kind: str = ""
    row: str | None = None

    def parse_path(self, path: str | PathLike, *arguments: Any, **options: Any) -> Namespace:
        """Read the options in a YAML file, which may be a recipe with rows or extend another recipe."""
        path = Path(path)
        values = read_recipe(path, self.kind).entry(self.row, self.kind).options if self.kind else read_options(path)
        return self.parse_string(yaml.safe_dump(values, sort_keys=False), path.name, *arguments, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error as one sentence, without the usage, and exit with status 2."""
        message = self._put_in_words(message)
        known = [action.dest for action in self._actions]
        words = re.findall(r"--([\w.]+)|(?:key|option) ['\"]([\w.]+)['\"]", message, flags=re.IGNORECASE)
        unknown = [word for pair in words for word in pair if word and word not in known]
        near = [near for word in unknown for near in difflib.get_close_matches(word, known, n=1)]
        hint = f" Did you mean {near[0]}?" if near else ""
        placed = {action.dest for action in self._actions if not action.option_strings}
        if message.startswith("unrecognized") and (by_place := [word for word, _ in words if word in placed]):
            hint = f" {by_place[0].upper()} is given by its place, without --{by_place[0]}."
        report_error(f"error: {visible_text(' '.join(message.split()))}.{hint}\nSee --help for all options.")
        raise SystemExit(2)

    def _put_in_words(self, message: str) -> str:
        """Say what type an option has as our own checks do; other messages than of types stay."""
        types = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
        wrong = re.match(r'Parser key "([\w.]+)":.*?(?:Got|Given) value: (.*)', message, flags=re.DOTALL)
        if wrong and types.get(wrong[1]):
            name, value = wrong[1], wrong[2].strip()
            return f"{name} must be {describe_type(types[name])}, got {IN_YAML.get(value, value)}"
        message = re.sub(r'^Parser key "([\w.]+)":\s*', r"\1: ", message)
        return re.sub(r"^argument (--[\w.]+)\S*: expected one argument", r"\1 needs a value", message)


class HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions and examples."""


def parse(
    config: type[Config],
    description: str,
    arguments: Sequence[str] | None = None,
    *,
    positional: Sequence[str] = (),
    prog: str | None = None,
    epilog: str | None = None,
    find_defaults: Callable[[Config], Mapping[str, Any]] = lambda config: {},
) -> Config:
    """Parse --config FILE and the command line into an instance of `config`; later values replace earlier ones.

    A mistake prints one sentence and exits with status 2.

    Args:
        config: a dataclass; its fields are the options, and their docstrings are the help.
        description: the first paragraph of the help.
        arguments: the words of the command line (default: those of this process).
        positional: fields that are given by position, as in `compare RUN_A RUN_B`; those with a default are optional.
        prog: the name of the command in the help.
        epilog: the last paragraph of the help.
        find_defaults: returns other defaults than those of `config`, given the options that were parsed.

    Returns:
        An instance of `config`.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}
    lists = {name for name in positional if get_origin(fields[name].type) is list}
    places = "".join(_format_place(fields[name], name in lists) for name in positional)
    config_file = "" if "config" in fields else "[--config FILE] "
    parser = Parser(
        prog=prog,
        description=textwrap.fill(" ".join(description.split()), 100),
        usage=f"%(prog)s {places}{config_file}[--OPTION VALUE …]",
        epilog=epilog,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    if "config" not in fields:
        parser.add_argument("--config", action="config", help="recipe: a YAML file of these options")
    parser.kind = str(getattr(config, "kind", ""))
    if parser.kind:
        parser.add_argument("--row", help="row of the recipe, in the place of its training")
        parser.row = _find_row(arguments)
    optional = [name for name in positional if name in lists or not is_required(fields[name])]
    taken: set[str] = set(optional)
    for part in config.__mro__[:-1]:  # the help shows the fields of each base class as a group
        inherited = {field.name for base in part.__mro__[1:-1] for field in dataclasses.fields(base)}
        parser.add_class_arguments(part, skip=inherited | taken, as_positional=len(positional) > len(optional))
        taken |= {field.name for field in dataclasses.fields(part)} - inherited
    for name in (name for name in positional if name in optional):  # after those that are required
        text = {action.dest: action.help for action in _find_actions(config)}[name]
        many = {"nargs": "+", "type": str} if name in lists else {"nargs": "?", "default": fields[name].default}
        parser.add_argument(name, help=text, **many)
    for action in parser._actions:
        kind = getattr(action, "_typehint", None)
        if kind is bool or bool in get_args(kind):  # --resume alone means --resume true
            action.nargs, action.const = "?", True
    types = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
    elements = {name: get_args(kind)[0] for name, kind in types.items() if get_origin(kind) is list}
    words = _join_lists(sys.argv[1:] if arguments is None else arguments, elements)
    given = _parse_words(parser, words, config)
    defaults = find_defaults(given)
    if not defaults:
        return given
    parser.set_defaults(defaults)
    return _parse_words(parser, words, config)


def _parse_words(parser: Parser, words: Sequence[str], config: type[Config]) -> Config:
    try:
        values = parser.parse_args(list(words)).as_dict()
    except RecursionError as error:  # what stands on the command line is YAML too
        raise ConfigError("a value on the command line holds itself, or is nested too deeply") from error
    if parser.row is not None and not values["config"]:
        raise ConfigError(f"--row {parser.row} is a row of a recipe: name its file with --config")
    return config(**{field.name: values[field.name] for field in dataclasses.fields(config)})


def is_required(field: dataclasses.Field) -> bool:
    """Whether a field has no default."""
    return field.default is field.default_factory is dataclasses.MISSING


def _format_place(field: dataclasses.Field, is_list: bool) -> str:
    """How the usage shows a field that is given by its place."""
    name = f"{field.name.upper()} …" if is_list else field.name.upper()
    return f"{name} " if is_required(field) else f"[{name}] "


def _find_actions(config: type[Any]) -> list[argparse.Action]:
    parser = ArgumentParser()
    parser.add_class_arguments(config)
    return parser._actions


def _join_lists(arguments: Sequence[str], elements: Mapping[str, Any]) -> list[str]:
    """Join the values of each list option into one word: `--seeds 0 1 2` becomes `--seeds [0,1,2]`.

    Values of a repeated option are appended. `elements` maps each list option to the type of its elements.
    """
    words: list[str] = []
    given: dict[str, list[str]] = {}
    option = ""
    for word in arguments:
        if word.startswith("--"):
            option = word[2:] if word[2:] in elements else ""
        if not option:
            words.append(word)
        elif word.startswith("--"):
            given.setdefault(option, [])
        else:
            given[option].append(word)
    for option, values in given.items():
        plain = elements[option] in (int, float)
        whole = len(values) == 1 and values[0].startswith("[")
        joined = ",".join(values if whole or plain else map(json.dumps, values))
        words += [f"--{option}", joined if whole else f"[{joined}]"] if values else [f"--{option}"]
    return words


def _find_row(arguments: Sequence[str] | None) -> str | None:
    """Find the value of --row before anything else is parsed, since it decides what --config reads."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--row")
    try:
        return parser.parse_known_args(arguments)[0].row
    except argparse.ArgumentError as error:
        raise ConfigError("--row names a row of the recipe: --row NAME") from error


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a script; print an error for the user as one sentence on stderr and exit with status 2."""
    reuse_freed_memory()
    settle_streams()
    try:
        main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except FewShotError as error:
        report_error(f"error: {visible_text(error)}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)
