"""fewshot: few-shot image classification. What is imported here is the public API."""

from typing import TYPE_CHECKING

from fewshot.backbones import create_backbone, list_backbones
from fewshot.config import PretrainConfig, TrainConfig
from fewshot.datasets import ImageSet, list_datasets, load_dataset
from fewshot.errors import FewShotError
from fewshot.evaluation.embed import embed
from fewshot.evaluation.evaluate import evaluate
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.records import Records
from fewshot.methods import EpisodeContext, FeatureHead, Method, create_method, list_methods
from fewshot.methods.base_classifier import Classifier
from fewshot.runtime.memory import reuse_freed_memory
from fewshot.sampling.episodes import Episode, EpisodeRows, EpisodeSampler, EpisodeSpec
from fewshot.training.train import fit

if TYPE_CHECKING:
    from fewshot.estimator import FewShotClassifier

__all__ = [
    "Classifier", "Episode", "EpisodeContext", "EpisodeRows", "EpisodeSampler", "EpisodeSpec", "FeatureHead",
    "FeatureSet", "FewShotClassifier", "FewShotError", "ImageSet", "Method", "PretrainConfig", "Records",
    "TrainConfig", "create_backbone", "create_method", "embed", "evaluate", "fit", "list_backbones",
    "list_datasets", "list_methods", "load_dataset", "reuse_freed_memory",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "FewShotClassifier":  # when it is wanted: scikit-learn takes as long to import as the rest
        from fewshot.estimator import FewShotClassifier

        return FewShotClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
