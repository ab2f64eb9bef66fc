"""YAML files of options from anybody: one that is no text, endless, a trap or repeats a key is one `ConfigError`."""

from pathlib import Path
from typing import Any

import yaml

from fewshot.errors import ConfigError, DataError
from fewshot.runtime.files import read_regular

LARGEST_BYTES = 1 << 18  # of a file; the largest of our own has a sixth of that
MOST_VALUES = 20_000  # of a file, each alias counted as what it stands for: a few lines can stand for a billion


def read_options(path: Path, may_be_empty: bool = False) -> dict[Any, Any]:
    """Read the mapping in a YAML file.

    Args:
        path: the file, in UTF-8.
        may_be_empty: an empty file, or one of comments alone, is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is no YAML, says a key twice, holds itself or too much, or no mapping.
    """
    try:
        text = read_regular(path, str(path), LARGEST_BYTES, "a file of options").decode("utf-8-sig")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            problem = _find_problem(node) if node else ""
            content = None if problem or node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except DataError as error:
        raise ConfigError(str(error)) from error
    except RecursionError as error:
        raise ConfigError(f"{path} cannot be read: its values are nested too deeply") from error
    except Exception as error:  # PyYAML's constructors raise many kinds for values that are not of their tag
        raise ConfigError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    if problem:
        raise ConfigError(f"{path}: {problem}")
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must map names of options to values, got {str(content)[:200]!r}")
    return content


def _find_problem(root: yaml.Node) -> str:
    """What keeps a file's content from being read; empty where nothing does."""
    counts: dict[int, int] = {}
    open_nodes: set[int] = set()

    def count(node: yaml.Node) -> int:
        """How many values a node stands for."""
        if id(node) in open_nodes:
            raise ConfigError(f"line {node.start_mark.line + 1} holds itself")
        if id(node) not in counts:
            open_nodes.add(id(node))
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
                parts = [part for pair in node.value for part in pair]
            counts[id(node)] = 1 + sum(map(count, parts))
            open_nodes.remove(id(node))
        return counts[id(node)]

    try:
        n_values = count(root)
    except ConfigError as error:
        return str(error)
    return f"it stands for {n_values:,} values, at most {MOST_VALUES:,} are read" if n_values > MOST_VALUES else ""


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        line = key.start_mark.line + 1
        if (key.tag, key.value) in lines:
            first = lines[key.tag, key.value]
            raise ConfigError(f"the key {key.value!r} stands in line {first} and again in line {line}")
        lines[key.tag, key.value] = line
