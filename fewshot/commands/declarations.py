"""All subcommands: those for papers' numbers, then those for photographs, each in the order of `fewshot --help`."""

from fewshot.commands.paper_commands import PAPER_COMMANDS
from fewshot.commands.photograph_commands import PHOTOGRAPH_COMMANDS

GROUPS = {"for papers": PAPER_COMMANDS, "for photographs": PHOTOGRAPH_COMMANDS}
COMMANDS = {**PAPER_COMMANDS, **PHOTOGRAPH_COMMANDS}
