"""`fewshot fit`: fits a classifier to a folder of photographs."""

from fewshot.config import FitPhotographsConfig
from fewshot.photographs.commands import fit_folder


def run(config: FitPhotographsConfig) -> None:
    """Fit a classifier to a folder of photographs, and save it.

    Args:
        config: the options of the subcommand.
    """
    fit_folder(config)
