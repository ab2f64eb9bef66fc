"""Measures refusals and prediction sets by a suite of configurations, and makes tables of the records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from fewshot.backbones import create_backbone
from fewshot.config.photographs import ConfidenceConfig
from fewshot.datasets import ImageSet, load_dataset
from fewshot.errors import ConfigError, DataError
from fewshot.estimator.open_set import Confidence, measure_confidence
from fewshot.evaluation.embed import embed
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.report import format_percent, write_section
from fewshot.evaluation.statistics import Estimate, compute_mean_interval
from fewshot.experiments.build import choose_device
from fewshot.images.shifts import shift_images
from fewshot.registry import unknown_name
from fewshot.reproduction.tables.accuracies import format_markdown
from fewshot.runtime.files import write_whole
from fewshot.runtime.provenance import collect_provenance

DECIMALS = 5
ERRORS = ("ece_before", "ece_after")
COLUMNS = {
    "accuracy": "right", "auroc": "AUROC", "false_accept": "accepted", "false_reject": "refused",
    "oracle_reject": "refused, oracle", "told_reject": "refused, told", "told_accept": "accepted, told",
    "accuracy_accepted": "right, of accepted", "coverage": "covered", "ece_before": "ECE before",
    "ece_after": "ECE after", "set_size": "classes in a set",
}  # fmt: skip
ASKED = ("n_way", "n_unknown", "n_shot", "n_query", "n_episodes", "seed", "false_accept_rate", "disjoint_groups",
         "coverage")  # fmt: skip
MEASURE_ALONE = ("suite", "only", "results", "report", "plugins")


def measure(config: ConfidenceConfig) -> tuple[dict[str, Confidence], str]:
    """Measure each method of a configuration on one embedding; also the fingerprint of the images."""
    images = load_images(config)
    backbone = create_backbone(config.backbone, images.image_shape[0], pretrained=True, **config.backbone_options)
    backbone = backbone.eval().to(choose_device())
    data = embed(backbone, images, precision=config.precision, store=True)
    queries = None
    if config.shift is not None:
        queries = embed(
            backbone, shift_images(images, config.shift, config.seed), precision=config.precision, store=True
        )
        queries = FeatureSet(images, queries.values)
    found = {}
    for name in config.methods:
        asked: dict[str, Any] = {"method": None if name == "baseline" else name, "queries": queries}
        asked |= {option: getattr(config, option) for option in ASKED}
        found[name] = measure_confidence(data, method_options=config.method_options, **asked)
    return found, images.fingerprint


def load_images(config: ConfidenceConfig) -> ImageSet:
    """Load the classes, and the number of images, that a configuration asks for."""
    images = load_dataset(config.dataset, config.split, config.data_root, **config.dataset_options)
    if config.classes is not None:
        if len(config.classes) != 2 or not 0 <= config.classes[0] < config.classes[1] <= images.n_classes:
            raise ConfigError(f"classes are two numbers from 0 to {images.n_classes}, got {config.classes}")
        images = images.select(images.class_names[slice(*config.classes)])
    if config.max_images is None:
        return images
    kept = []
    for label, count in enumerate(images.class_counts):
        places = np.linspace(0, count - 1, min(config.max_images, count)).round().astype(int)
        kept.append(np.flatnonzero(images.labels == label)[places])
    rows = np.sort(np.concatenate(kept))
    return ImageSet(
        images.gather(torch.from_numpy(rows)), images.labels[rows], images.class_names,
        None if images.groups is None else images.groups[rows],
        name=images.name, split=images.split, origins=images.origins,
    )  # fmt: skip


def run_suite(config: ConfidenceConfig) -> None:
    """Measure the missing records of a suite one after the other, then write its tables."""
    tables = read_suite(Path(str(config.suite)))
    folder = Path(config.results)
    for measurements in tables.values():
        for name, own in measurements.items():
            path = folder / f"{name}.json"
            if path.exists() or (config.only and name not in config.only):
                continue
            found, fingerprint = measure(own)
            command = f"python scripts/confidence.py --suite {config.suite} --only {name}"
            write_whole(path, format_record(own, found, fingerprint, command))
            print(f"{name}: {', '.join(f'{m} {format_percent(c.accuracy)}' for m, c in found.items())}", flush=True)
    for table, measurements in tables.items():
        if any((folder / f"{name}.json").exists() for name in measurements):
            write_section(config.report, table, table[:1].upper() + table[1:], format_table(measurements, folder))


def read_suite(path: Path) -> dict[str, dict[str, ConfidenceConfig]]:
    """Read the measurements of each table; `shared` options apply to all."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(said, dict) or not all(isinstance(part, dict) for part in said.values()):
        raise ConfigError(f"{path} must hold tables, each of named measurements with their options")
    shared, known = said.pop("shared", {}), [f.name for f in fields(ConfidenceConfig) if f.name not in MEASURE_ALONE]
    tables: dict[str, dict[str, ConfidenceConfig]] = {}
    for table, measurements in said.items():
        tables[table] = {}
        for name, options in measurements.items():
            for option in {**shared, **options}:
                if option not in known:
                    raise unknown_name(f"option of the measurement {name}", option, known)
            tables[table][name] = replace(ConfidenceConfig(), **(shared | options))
    return tables


def format_record(config: ConfidenceConfig, found: Mapping[str, Confidence], fingerprint: str, command: str) -> str:
    """Format a record as JSON: the configuration, the data, and the values of each episode."""
    options = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in MEASURE_ALONE}
    record: dict[str, Any] = {"options": options, "data_fingerprint": fingerprint, **collect_provenance()}
    record |= {"command": command, "methods": {}}
    for name, confidence in found.items():
        values = {key: [_round(v) for v in column] for key, column in confidence.values.items()}
        errors = {key: [_round(v) for v in getattr(confidence, key)] for key in ERRORS}
        record["methods"][name] = {"values": values, **errors}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _round(value: float) -> float | None:
    return round(float(value), DECIMALS) if np.isfinite(value) else None


def format_table(measurements: Mapping[str, ConfidenceConfig], folder: Path) -> str:
    """Format the existing records as a Markdown table, a line for each measurement and method."""
    lines, facts = [], []
    for name, config in measurements.items():
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        for method, held in record["methods"].items():
            found = {key: _estimate(column) for key, column in held["values"].items()}
            found |= {key: Estimate(*held[key]) for key in ERRORS}
            lines.append((f"{name}, {method}" if len(record["methods"]) > 1 else name, found))
        facts.append(
            f"`{name}`: {len(held['values']['accuracy']):,} episodes, seed {config.seed}, data "
            f"{record['data_fingerprint']}, commit {record['commit']}"
        )
    if not lines:
        raise DataError(f"{folder} has no record of {', '.join(measurements)}")
    return "\n\n".join([format_lines(lines), "; ".join(facts) + "."])


def collect_estimates(confidence: Confidence) -> dict[str, Estimate]:
    """Collect the means over episodes, with their intervals."""
    return {name: getattr(confidence, name) for name in (*confidence.values, *ERRORS)}


def format_lines(lines: Sequence[tuple[str, Mapping[str, Estimate]]]) -> str:
    """Format measurements as a Markdown table in %, a line for each name."""
    columns = [key for key in COLUMNS if any(key in found for _, found in lines)]
    body = [[name, *(_format(found.get(key), key) for key in columns)] for name, found in lines]
    return format_markdown(["", *(COLUMNS[key] for key in columns)], body)


def _estimate(values: Sequence[float | None]) -> Estimate:
    return compute_mean_interval(np.array([value for value in values if value is not None]))


def _format(estimate: Estimate | None, key: str) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.mean:.2f} ± {estimate.half_width_95:.2f}" if key == "set_size" else format_percent(estimate)
