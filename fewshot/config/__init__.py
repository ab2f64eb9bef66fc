"""Configuration: dataclasses with one field per option, read by the command line and by YAML recipes alike."""

from fewshot.config.evaluation import CompareConfig, EvaluateConfig, MeasureConfig
from fewshot.config.experiments import (
    EPISODIC,
    PRETRAIN,
    ExperimentConfig,
    PretrainExperimentConfig,
    SetupConfig,
    as_dict,
    differing_options,
    variants_changed,
)
from fewshot.config.photographs import (
    CheckPhotographsConfig,
    ConfidenceConfig,
    FitPhotographsConfig,
    PhotographsConfig,
    PredictPhotographsConfig,
)
from fewshot.config.saved import AnyConfig, from_saved, kind_of
from fewshot.config.training import Count, FitConfig, PretrainConfig, TrainConfig

__all__ = [
    "EPISODIC",
    "PRETRAIN",
    "AnyConfig",
    "CheckPhotographsConfig",
    "CompareConfig",
    "ConfidenceConfig",
    "Count",
    "EvaluateConfig",
    "ExperimentConfig",
    "FitConfig",
    "FitPhotographsConfig",
    "MeasureConfig",
    "PhotographsConfig",
    "PredictPhotographsConfig",
    "PretrainConfig",
    "PretrainExperimentConfig",
    "SetupConfig",
    "TrainConfig",
    "as_dict",
    "differing_options",
    "from_saved",
    "kind_of",
    "variants_changed",
]
