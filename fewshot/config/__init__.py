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
from fewshot.config.training import Count, PretrainConfig, TrainConfig, TrainingOptions

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
    "FitPhotographsConfig",
    "MeasureConfig",
    "PhotographsConfig",
    "PredictPhotographsConfig",
    "PretrainConfig",
    "PretrainExperimentConfig",
    "SetupConfig",
    "TrainConfig",
    "TrainingOptions",
    "as_dict",
    "differing_options",
    "from_saved",
    "kind_of",
    "variants_changed",
]
