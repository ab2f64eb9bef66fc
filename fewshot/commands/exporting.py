"""`fewshot export`: a classifier as a folder that stands alone."""

from fewshot.config import ExportConfig
from fewshot.photographs.serving.exporting import export


def run(config: ExportConfig) -> None:
    """Write a classifier, or the method of a run, as a folder of a predictor.

    Args:
        config: the options of the subcommand.
    """
    export(config)
