"""`fewshot suggest`: which photographs to label next."""

from fewshot.config import SuggestPhotographsConfig
from fewshot.photographs.suggesting import suggest_photographs


def run(config: SuggestPhotographsConfig) -> None:
    """Choose the photographs of a folder that are worth labelling next.

    Args:
        config: the options of the subcommand.
    """
    suggest_photographs(config)
