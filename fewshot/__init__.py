"""fewshot: few-shot image classification. What is imported here is the public API.

Each name is imported from its module when it is first used, so that `import fewshot` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from fewshot.backbones import BACKBONES, create_backbone, list_backbones
    from fewshot.config import PretrainConfig, TrainConfig
    from fewshot.datasets import DATASETS, ImageSet, list_datasets, load_dataset
    from fewshot.errors import FewShotError
    from fewshot.estimator import FewShotClassifier
    from fewshot.evaluation.embed import embed
    from fewshot.evaluation.evaluate import evaluate
    from fewshot.evaluation.feature_set import FeatureSet
    from fewshot.evaluation.records import Records
    from fewshot.experiments.build import load_run
    from fewshot.methods import METHODS, EpisodeContext, FeatureHead, Method, create_method, list_methods
    from fewshot.methods.base_classifier import Classifier
    from fewshot.runtime.memory import reuse_freed_memory
    from fewshot.runtime.plugins import load_plugins
    from fewshot.sampling.episodes import Episode, EpisodeRows, EpisodeSampler, EpisodeSpec
    from fewshot.training.train import train

_HOME = {
    "BACKBONES": "backbones",
    "Classifier": "methods.base_classifier",
    "DATASETS": "datasets",
    "Episode": "sampling.episodes",
    "EpisodeContext": "methods",
    "EpisodeRows": "sampling.episodes",
    "EpisodeSampler": "sampling.episodes",
    "EpisodeSpec": "sampling.episodes",
    "FeatureHead": "methods",
    "FeatureSet": "evaluation.feature_set",
    "FewShotClassifier": "estimator",
    "FewShotError": "errors",
    "ImageSet": "datasets",
    "METHODS": "methods",
    "Method": "methods",
    "PretrainConfig": "config",
    "Records": "evaluation.records",
    "TrainConfig": "config",
    "create_backbone": "backbones",
    "create_method": "methods",
    "embed": "evaluation.embed",
    "evaluate": "evaluation.evaluate",
    "list_backbones": "backbones",
    "list_datasets": "datasets",
    "list_methods": "methods",
    "load_dataset": "datasets",
    "load_plugins": "runtime.plugins",
    "load_run": "experiments.build",
    "reuse_freed_memory": "runtime.memory",
    "train": "training.train",
}  # the module of each public name, below this package; a test compares it with the imports above

__all__ = [
    "BACKBONES", "DATASETS", "METHODS", "Classifier", "Episode", "EpisodeContext", "EpisodeRows", "EpisodeSampler",
    "EpisodeSpec", "FeatureHead", "FeatureSet", "FewShotClassifier", "FewShotError", "ImageSet", "Method",
    "PretrainConfig", "Records", "TrainConfig", "create_backbone", "create_method", "embed", "evaluate",
    "list_backbones", "list_datasets", "list_methods", "load_dataset", "load_plugins", "load_run",
    "reuse_freed_memory", "train",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
