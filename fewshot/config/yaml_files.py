"""YAML files of options, in which no key stands twice: YAML itself would silently take the last value."""

from pathlib import Path
from typing import Any

import yaml

from fewshot.errors import ConfigError


class _UniqueKeyLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                raise ConfigError(f"{self.name}: the key {key.value!r} stands in line {first} and again in line {line}")
            lines[key.tag, key.value] = line
        return node


def read_options(path: Path) -> dict[str, Any]:
    """Read a YAML file that maps names of options to values.

    Raises:
        ConfigError: the file cannot be read, is no YAML, repeats a key, or holds something else than a mapping.
    """
    try:
        loader = _UniqueKeyLoader(path.read_text(encoding="utf-8"))
        loader.name = str(path)
        content = loader.get_single_data()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must map names of options to values, got {content!r}")
    return content
