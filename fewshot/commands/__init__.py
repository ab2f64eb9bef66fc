"""The command `fewshot`: each subcommand is a module of this folder, declared in `declarations`.

This module and the declarations import neither torch nor numpy, so that `fewshot --help` is fast. What takes time to
import is imported within `main`, where a Ctrl-C ends the command without a traceback.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

NAMING = {"--method", "--backbone", "--dataset", "--config"}  # --help also lists the options of what these name


def main(arguments: Sequence[str] | None = None, among: Sequence[str] | None = None) -> NoReturn:
    """Run a subcommand, and exit.

    Args:
        arguments: the name of a subcommand and its options (default: those of the command line).
        among: the subcommands that are known (default: all).
    """
    try:
        _run(arguments, among)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:  # who read the output, `head` say, has enough
        _give_up_stdout()
        raise SystemExit(141) from None
    except OSError as error:  # what no room of the package expected: a full disk, a place without permission
        from fewshot.runtime.terminal import report_error, visible_text

        if error.filename is None:
            _give_up_stdout()
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        report_error(visible_text(f"error: {place}{error.strerror or error}"))
        raise SystemExit(2) from None


def _give_up_stdout() -> None:
    """Write no more to the standard output: what waits to be written would fail again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run(arguments: Sequence[str] | None, among: Sequence[str] | None) -> NoReturn:
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(format_overview())
        raise SystemExit(0)
    if name == "--version":
        import fewshot

        print(f"fewshot {fewshot.__version__}")
        raise SystemExit(0)
    from fewshot import cli  # imported here, since it would double the time of `fewshot --help`

    cli.run(lambda: execute(name, rest, among))


def execute(name: str, arguments: Sequence[str], among: Sequence[str] | None = None) -> None:
    """Parse the options of the subcommand `name`, load the plugins they name, and run it."""
    from fewshot import cli
    from fewshot.commands.declarations import COMMANDS, PHOTOGRAPH_COMMANDS
    from fewshot.registry import unknown_name
    from fewshot.runtime.plugins import load_plugins
    from fewshot.runtime.threads import wait_passively

    if name not in (among or COMMANDS):
        raise unknown_name("command", name, among or COMMANDS)
    if name in PHOTOGRAPH_COMMANDS:
        wait_passively()
    command = COMMANDS[name]
    epilog = "\n".join(["examples:", *(f"  {example}" for example in command.examples)])
    options = {word.partition("=")[0] for word in arguments}
    if {"-h", "--help"} & options and NAMING & options and command.has_named_options:
        from fewshot.commands.option_help import describe_named

        epilog = describe_named(arguments) + epilog
    config = cli.parse(
        command.config,
        command.description,
        arguments,
        positional=command.positional,
        prog=f"fewshot {name}",
        epilog=epilog,
        find_defaults=_find_held_options,
    )
    load_plugins(getattr(config, "plugins", []))
    import_module(f"{__name__}.{command.module or name}").run(config)


def _find_held_options(config: Any) -> Mapping[str, Any]:
    """The options of a run that is to go on: they hold where no others are given."""
    if not getattr(config, "resume", False):
        return {}
    from fewshot.training.run_folder import RunFolder

    return RunFolder(config.run_dir).find_held_options(config)


def format_overview() -> str:
    """Format what `fewshot --help` prints."""
    from fewshot.commands.declarations import COMMANDS, GROUPS

    lines = [
        "usage: fewshot COMMAND [--OPTION VALUE …]", "",
        "Few-shot image classification: the papers' methods, and a classifier of your own photographs.",
    ]  # fmt: skip
    for title, names in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:11} {COMMANDS[name].summary}" for name in names)]
    lines += [
        "", "examples:",
        "  fewshot train                                            five minutes, no data needed",
        "  fewshot train --method maml --help                       the options of maml",
        "  fewshot fit --support my_coins/ --out coins.fewshot      a folder of photographs for each class",
        "", "fewshot COMMAND --help lists the options of a command; fewshot --version prints the version.",
    ]  # fmt: skip
    return "\n".join(lines)
