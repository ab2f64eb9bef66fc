"""Read the configurations that are saved with runs and results."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fewshot.config.experiments import EPISODIC, PRETRAIN, ExperimentConfig, PretrainExperimentConfig
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name

AnyConfig = ExperimentConfig | PretrainExperimentConfig
CLASSES: dict[str, type[AnyConfig]] = {EPISODIC: ExperimentConfig, PRETRAIN: PretrainExperimentConfig}


def find_kind(saved: Mapping[str, Any]) -> str:
    """Find the kind of a saved configuration.

    Early versions did not save the kind; it then follows from `batch_size`, an option that only the training of a
    classifier has.
    """
    return saved.get("kind") or (PRETRAIN if "batch_size" in saved else EPISODIC)


def read_saved(saved: Mapping[str, Any], place: object) -> AnyConfig:
    """Rebuild a configuration from the plain values that `as_dict` made; `place` names their file in errors.

    Raises `ConfigError` for options, and `UnknownNameError` for a kind, that this version does not have.
    """
    kind = find_kind(saved)
    if kind not in CLASSES:
        raise unknown_name(f"kind of the configuration {place}", kind, CLASSES)
    unknown = sorted(saved.keys() - {field.name for field in fields(CLASSES[kind])})
    if unknown:
        raise ConfigError(f"{place} has options that this version of fewshot does not know: {unknown}")
    return CLASSES[kind](**saved)
