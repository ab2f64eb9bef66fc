"""`fewshot check`: checks a folder of photographs."""

from fewshot.config import CheckPhotographsConfig
from fewshot.photographs.checking import check_support


def run(config: CheckPhotographsConfig) -> None:
    """Report what is wrong with a folder of photographs, and what accuracy to expect of it.

    Args:
        config: the options of the subcommand.
    """
    check_support(config)
