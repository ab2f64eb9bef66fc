"""`fewshot predict`: a fitted classifier is asked about photographs."""

from fewshot.config import PredictPhotographsConfig
from fewshot.photographs.commands import predict_folder


def run(config: PredictPhotographsConfig) -> None:
    """Do it; it prints what it found."""
    predict_folder(config)
