"""What is declared of a subcommand."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A subcommand; the module of this folder with its name, or `module`, has a function `run(config)`.

    `summary`: one line for `fewshot --help`. `description`: the beginning of its own help. `positional`: fields that
    are positional arguments.
    """

    config: type[Any]
    summary: str
    description: str
    examples: tuple[str, ...]
    positional: tuple[str, ...] = ()
    module: str = ""

    @property
    def has_named_options(self) -> bool:
        """Whether it takes options of a method, backbone or data set that is chosen by name."""
        return any(name.endswith("_options") for name in self.config.__dataclass_fields__)
