"""Read the configurations that are saved with runs and results."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from fewshot.config.experiments import EPISODIC, PRETRAIN, ExperimentConfig, PretrainExperimentConfig
from fewshot.errors import ConfigError
from fewshot.registry import describe_type, fits, unknown_name

AnyConfig = ExperimentConfig | PretrainExperimentConfig
CLASSES: dict[str, type[AnyConfig]] = {EPISODIC: ExperimentConfig, PRETRAIN: PretrainExperimentConfig}


def find_kind(saved: Mapping[str, Any]) -> str:
    """Find the kind of a saved configuration.

    Early versions did not save the kind; it then follows from `batch_size`, an option that only the training of a
    classifier has.
    """
    return saved.get("kind") or (PRETRAIN if "batch_size" in saved else EPISODIC)


def read_saved(saved: Any, place: object) -> AnyConfig:
    """Rebuild a configuration from the plain values that `as_dict` made; `place` names their file in errors.

    Raises `ConfigError` for options that this version does not have and values of another type, and `UnknownNameError`
    for a kind that it does not have.
    """
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{place} must hold names of options with a value each, got {str(saved)[:100]!r}")
    kind = find_kind(saved)
    if not isinstance(kind, str) or kind not in CLASSES:
        raise unknown_name(f"kind of the configuration {place}", str(kind), CLASSES)
    unknown = sorted(saved.keys() - {field.name for field in fields(CLASSES[kind])})
    if unknown:
        raise ConfigError(f"{place} has options that this version of fewshot does not know: {unknown}")
    types = get_type_hints(CLASSES[kind])
    for name, value in saved.items():
        if not fits(value, types[name]):
            raise ConfigError(f"{place}: {name} must be {describe_type(types[name])}, got {str(value)[:100]!r}")
    try:
        return CLASSES[kind](**saved)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
