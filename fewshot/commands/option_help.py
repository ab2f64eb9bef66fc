"""Describes the options of the method, backbone or data set that the command line names, for `--help`."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fewshot.backbones.create import backbone_options
from fewshot.config.recipes import read_recipe
from fewshot.datasets import DATASETS
from fewshot.methods import METHODS
from fewshot.registry import ANYTHING, Option, Options, describe_type
from fewshot.runtime.plugins import load_plugins

KINDS = {"method": METHODS.options, "backbone": backbone_options, "dataset": DATASETS.options}
YAML = {"None": "null", "True": "true", "False": "false"}
INDENT = " " * 8


def describe_named(arguments: Sequence[str]) -> str:
    """The options of each thing that is named by --method, --backbone or --dataset, or in the file of --config.

    Args:
        arguments: the words of the command line.
    """
    named = _find_named(arguments)
    load_plugins(named.get("plugins", []))
    found = ((kind, options_of(str(named[kind]))) for kind, options_of in KINDS.items() if kind in named)
    return "".join(_describe(f"{kind}_options", options) for kind, options in found)


def _find_named(arguments: Sequence[str]) -> dict[str, Any]:
    """Find what the words name; if a kind is named twice, the last word counts. Plugins are a list."""
    named: dict[str, Any] = {}
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    option, row = "", next((value for name, value in pairwise(words) if name == "--row"), None)
    for word in words:
        if word.startswith("--"):
            option = word[2:]
        elif option == "config":
            named |= _read_file(Path(word), row)
        elif option == "plugins":
            more = yaml.safe_load(word) if word.startswith("[") else [word]
            named["plugins"] = [*named.get("plugins", []), *more]
        elif option in KINDS:
            named[option] = word
    return named


def _read_file(path: Path, row: str | None) -> dict[str, Any]:
    """Read what a recipe's training, or its row `row`, names."""
    recipe = read_recipe(path)
    entry = next((entry for entry in recipe.rows if entry.name == row), recipe.training)
    options = entry.options if entry else {}
    return {key: options[key] for key in (*KINDS, "plugins") if key in options}


def _describe(prefix: str, options: Options) -> str:
    lines = [f"options of {options.owner}:"]
    for option in options.known.values():
        lines.append(f"  --{prefix}.{option.name} {option.name.upper()}")
        lines += textwrap.wrap(_explain(option), 92, initial_indent=INDENT, subsequent_indent=INDENT)
    lines += ["  and all options of the library's own constructor"] if options.open else []
    return "\n".join([*(lines if options.known else [*lines, "  none"]), "", ""])


def _explain(option: Option) -> str:
    default = YAML.get(str(option.default), option.default)
    default = "" if option.default is ANYTHING else f", default: {default}"
    return f"{option.text} ({describe_type(option.type)}{default})".strip()
