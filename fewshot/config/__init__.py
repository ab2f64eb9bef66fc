"""Configuration: dataclasses with one field per option, filled from the command line and from YAML recipes."""

from fewshot.config.evaluation import CompareConfig, EvaluateConfig, MeasureConfig
from fewshot.config.experiments import (
    EPISODIC,
    OF_EPISODES,
    PRETRAIN,
    ExperimentConfig,
    PretrainExperimentConfig,
    SetupConfig,
    as_dict,
    find_differing_options,
    have_variants_changed,
    select_method_options,
)
from fewshot.config.monitoring import MonitorConfig
from fewshot.config.photographs import (
    CheckPhotographsConfig,
    ConfidenceConfig,
    DemoConfig,
    ExportConfig,
    FitPhotographsConfig,
    PhotographsConfig,
    PredictPhotographsConfig,
    ServeConfig,
    SuggestPhotographsConfig,
)
from fewshot.config.saved import AnyConfig, find_kind, read_saved
from fewshot.config.training import Count, PretrainConfig, TrainConfig, TrainingOptions

__all__ = [
    "EPISODIC",
    "OF_EPISODES",
    "PRETRAIN",
    "AnyConfig",
    "CheckPhotographsConfig",
    "CompareConfig",
    "ConfidenceConfig",
    "Count",
    "DemoConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "ExportConfig",
    "FitPhotographsConfig",
    "MeasureConfig",
    "MonitorConfig",
    "PhotographsConfig",
    "PredictPhotographsConfig",
    "PretrainConfig",
    "PretrainExperimentConfig",
    "ServeConfig",
    "SetupConfig",
    "SuggestPhotographsConfig",
    "TrainConfig",
    "TrainingOptions",
    "as_dict",
    "find_differing_options",
    "find_kind",
    "have_variants_changed",
    "read_saved",
    "select_method_options",
]
