"""fewshot: few-shot image classification. What is imported here is the public API."""

from fewshot.backbones import create_backbone, list_backbones
from fewshot.config import PretrainConfig, TrainConfig
from fewshot.datasets import ImageSet, list_datasets, load_dataset
from fewshot.episodes import Episode, EpisodeSampler, EpisodeSpec
from fewshot.errors import FewShotError
from fewshot.evaluate import evaluate
from fewshot.methods import Method, create_method, list_methods
from fewshot.methods.classifier import Classifier
from fewshot.records import Records
from fewshot.train import fit

__all__ = [
    "Classifier", "Episode", "EpisodeSampler", "EpisodeSpec", "FewShotError", "ImageSet", "Method", "PretrainConfig",
    "Records", "TrainConfig", "create_backbone", "create_method", "evaluate", "fit", "list_backbones", "list_datasets",
    "list_methods", "load_dataset",
]  # fmt: skip
