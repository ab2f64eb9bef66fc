"""`fewshot demo`: a classifier of coins that come with the package."""

from fewshot.config import DemoConfig
from fewshot.photographs.demo import show


def run(config: DemoConfig) -> None:
    """Fit a classifier to the coins of the package, and show its answers about others.

    Args:
        config: the options of the subcommand.
    """
    show(config)
