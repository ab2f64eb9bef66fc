"""`fewshot fit`: a classifier of a folder of photographs."""

from fewshot.config import FitPhotographsConfig
from fewshot.photographs.commands import fit_folder


def run(config: FitPhotographsConfig) -> None:
    """Do it; it prints what it found."""
    fit_folder(config)
