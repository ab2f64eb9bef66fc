"""`fewshot predict`: classifies photographs with a fitted classifier."""

from fewshot.config import PredictPhotographsConfig
from fewshot.photographs.commands import predict_folder


def run(config: PredictPhotographsConfig) -> None:
    """Classify photographs with a saved classifier, and write the answers.

    Args:
        config: the options of the subcommand.
    """
    predict_folder(config)
