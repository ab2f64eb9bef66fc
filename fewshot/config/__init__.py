"""Configuration: dataclasses with one field per option, read by the command line and by YAML recipes alike."""

from fewshot.config.experiments import (
    ExperimentConfig,
    PretrainExperimentConfig,
    SetupConfig,
    as_dict,
    differing_options,
)
from fewshot.config.measuring import CompareConfig, EvaluateConfig, MeasureConfig
from fewshot.config.training import Count, FitConfig, PretrainConfig, TrainConfig

__all__ = [
    "CompareConfig",
    "Count",
    "EvaluateConfig",
    "ExperimentConfig",
    "FitConfig",
    "MeasureConfig",
    "PretrainConfig",
    "PretrainExperimentConfig",
    "SetupConfig",
    "TrainConfig",
    "as_dict",
    "differing_options",
]
