"""`fewshot check`: what is to be mended in a folder of photographs."""

from fewshot.config import CheckPhotographsConfig
from fewshot.photographs.commands import check_support


def run(config: CheckPhotographsConfig) -> None:
    """Do it; it prints what it found."""
    check_support(config)
