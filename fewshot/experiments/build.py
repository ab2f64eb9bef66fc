"""Builds methods and data sets from a configuration, loads methods from run folders, and measures test cells."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot.backbones import create_backbone
from fewshot.config import (
    AnyConfig,
    ExperimentConfig,
    PretrainExperimentConfig,
    as_dict,
    find_differing_options,
    have_variants_changed,
)
from fewshot.datasets import ImageSet, load_dataset
from fewshot.errors import ConfigError, DataError
from fewshot.evaluation.base_classes import BaseClasses
from fewshot.evaluation.embed import embed
from fewshot.evaluation.evaluate import evaluate
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.records import Records, name_cell
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.cells import list_cells, list_variants
from fewshot.images.holding_out import hold_out_images
from fewshot.methods import Method, create_method
from fewshot.methods.base_classifier import Classifier
from fewshot.runtime import processes, seeding
from fewshot.runtime.checkpoint import load_checkpoint, refusing_foreign
from fewshot.runtime.plugins import list_loaded_plugins, load_plugins
from fewshot.runtime.provenance import find_commit, hash_weights
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec
from fewshot.training.leakage import Overlap
from fewshot.training.run_folder import NOT_COMPARED, RunFolder


def load_split(config: AnyConfig, split: str, **changes: object) -> ImageSet:
    """Load a split of the configured data set; the test split comes from `test_dataset` if that is set."""
    if config.test_dataset_options and not config.test_dataset:
        raise ConfigError(
            "test_dataset_options need a test_dataset, and none is given: dataset_options hold for all splits"
        )
    elsewhere = config.test_dataset if split == "test" else None
    options = {**(config.test_dataset_options if elsewhere else config.dataset_options), **changes}
    if config.skip_bad_images:
        options["skip_bad_images"] = True
    loaded = load_dataset(elsewhere or config.dataset, split, config.data_root, **options)
    trained_on = split == config.train_split and not elsewhere
    return hold_out_images(loaded, config.held_out_images)[0] if config.held_out_images and trained_on else loaded


def build_method(config: ExperimentConfig, image_shape: tuple[int, ...], backbone: str | None = None) -> Method:
    """Build the configured method with initial weights, for images of `image_shape` (C, height_px, width_px)."""
    with seeding.fork(config.seed, "initial weights"):
        method = create_method(config.method, _build_backbone(config, image_shape, backbone), **config.method_options)
    if config.freeze_backbone:
        method.backbone.requires_grad_(False)
    return method


def build_classifier(config: PretrainExperimentConfig, image_shape: tuple[int, ...], n_classes: int) -> Classifier:
    """Build the configured classifier of `n_classes` base classes with initial weights."""
    with seeding.fork(config.seed, "initial weights"):
        backbone = _build_backbone(config, image_shape)
        return Classifier(backbone, n_classes, config.classifier, config.classifier_scale, config.label_smoothing)


def _build_backbone(config: AnyConfig, image_shape: tuple[int, ...], name: str | None = None) -> nn.Module:
    """Build the configured backbone, or the one called `name` with default options."""
    options = {"in_channels": image_shape[0], "input_px": image_shape[1]}
    return create_backbone(name or config.backbone, **options | ({} if name else config.backbone_options))


def load_run(run_dir: str | Path, method_options: Mapping[str, Any] | None = None) -> tuple[Method, AnyConfig]:
    """Load the method that a run trained: the weights that validation chose, else the last ones.

    Args:
        run_dir: the folder of the run.
        method_options: replace the run's own, for instance the number of adaptation steps.

    Returns:
        The method and the configuration of the run.

    Raises:
        ConfigError: where the weights are not those of a method with such options.
        CheckpointError: where the run has no readable checkpoint.
    """
    folder = RunFolder(run_dir)
    config = load_config(folder)
    path = folder.best if folder.best.exists() else folder.last
    state = load_checkpoint(path)
    with refusing_foreign(path, "run"):
        return _restore(state, config, method_options or {}, folder)


def _restore(
    state: Mapping[str, Any], config: AnyConfig, method_options: Mapping[str, Any], folder: RunFolder
) -> tuple[Method, AnyConfig]:
    image_shape = tuple(state["image_shape"])
    if isinstance(config, PretrainExperimentConfig):
        if method_options:
            raise ConfigError(f"{folder.path} holds a classifier, which has no method_options: {dict(method_options)}")
        method = build_classifier(config, image_shape, state["n_classes"])
    else:
        config = replace(config, method_options={**config.method_options, **method_options})
        method = build_method(config, image_shape)
    mine, theirs = ({n: v.shape for n, v in held.items()} for held in (method.state_dict(), state["method"]))
    differing = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
    if method_options and differing:
        raise ConfigError(f"with {dict(method_options)} {config.method} has other weights than the run: {differing}")
    method.load_state_dict(state["method"])
    return method, config


def load_config(folder: RunFolder) -> AnyConfig:
    """Load the configuration of a run and the plugins that it names."""
    config = folder.load_config()
    load_plugins(config.plugins)
    folder.check_plugins()
    return config


def choose_device() -> torch.device:
    """Choose the accelerator if there is one, else the CPU; a process launched with others joins them here."""
    from accelerate import PartialState  # slow to import

    device = PartialState(cpu=not torch.accelerator.is_available()).device
    processes.leave_at_exit()
    return device


def _check_shape(imageset: ImageSet, image_shape: tuple[int, ...], options: Mapping[str, Any]) -> None:
    """Raise where a test set has other channels than what is trained on, or another size that nobody asked for."""
    channels, trained_channels = imageset.image_shape[0], image_shape[0]
    if channels != trained_channels:
        raise ConfigError(
            f"the images of {imageset} have channels={channels}, those that are trained on {trained_channels}: take "
            "another test_dataset, or give the option channels where a data set has it"
        )
    if imageset.image_shape != image_shape and "size_px" not in options:
        size, trained_size = (f"{shape[2]} x {shape[1]} px" for shape in (imageset.image_shape, image_shape))
        raise ConfigError(
            f"the images of {imageset} have {size}, those that are trained on {trained_size}: prepare them alike, or, "
            "if the network is to resize them, ask for their size: test_dataset_options.size_px"
        )


def load_test_sets(config: AnyConfig, image_shape: tuple[int, ...] | None = None) -> dict[str, ImageSet]:
    """Load the test split (named "") and those of `test_also`, and check that they hold every test cell.

    With `train_only` there are none, and nothing of them is read. `image_shape`: of the images that are trained on; a
    test set must have it too if anything is trained.
    """
    if config.train_only:
        return {}
    sets = {"": load_split(config, "test")}
    sets |= {name: load_split(config, "test", **changes) for name, changes in config.test_also.items()}
    for name, imageset in sets.items():
        if image_shape and config.max_steps:
            _check_shape(imageset, image_shape, config.test_dataset_options | config.test_also.get(name, {}))
        for row in (RowKind.TRAINED, *list_variants(config)):
            for cell in list_cells(config, row):
                EpisodeSampler(imageset, cell)  # raises now, not after hours of training, if the set is too small
    return sets


def measure(
    method: Method,
    imageset: ImageSet,
    cells: Sequence[EpisodeSpec],
    config: AnyConfig,
    selected_on: str,
    files: Sequence[Path] = (),
    overlap: Overlap | None = None,
    base: BaseClasses | None = None,
) -> list[Records]:
    """Measure a method on each cell; the images are embedded once for all cells.

    For the header, `selected_on` says on what the weights were selected ("val", or "nothing" for an untrained
    network), and `overlap` what part of the set they were trained on. `base`: see `evaluate`. `files`: the records of
    each cell are written here as soon as it is measured. A file with records of the same weights, options and commit is
    read instead, so that an interrupted measurement can continue.
    """
    data: ImageSet | FeatureSet = imageset
    seconds, all_records = 0.0, []
    for cell, file in zip_longest(cells, files):
        records = processes.broadcast_first(_load_measured(file, method, imageset, cell, config) if file else None)
        if records is None:
            if method.uses_features and data is imageset:
                started = time.perf_counter()
                untrained = config.max_steps == 0  # only then other runs need features of the same weights
                data = embed(method, imageset, None, config.precision, store=untrained)
                seconds = time.perf_counter() - started
            precision, seed = config.precision, config.test_seed
            records = evaluate(method, data, cell, config.test_episodes, seed, precision=precision, base=base)
            facts = {"selected_on": selected_on, "config": as_dict(config), **(overlap.header if overlap else {})}
            records = records.add_facts(embedding_seconds=round(seconds, 3), **facts)
            if file and processes.is_first():
                records.write(file)
        all_records.append(records)
    return all_records


def list_record_files(config: AnyConfig, test_set: str, row: str, cells: Iterable[EpisodeSpec]) -> list[Path]:
    """List the files for the records of a row of the test table; `test_set`: its name in `test_also`, or ""."""
    return [RunFolder(config.run_dir).records(test_set, row, name_cell(vars(cell))) for cell in cells]


def _load_measured(
    file: Path, method: Method, imageset: ImageSet, cell: EpisodeSpec, config: AnyConfig
) -> Records | None:
    """Load the records in `file` if measuring again would give the same; else return None."""
    try:
        records = Records.read(file)
    except (FileNotFoundError, DataError):  # no file, or an incomplete one
        return None
    changed = find_differing_options(records.header.config or {}, config)
    unknown_code = find_commit().endswith("+") or (records.header.plugins or {}) != list_loaded_plugins()
    if unknown_code or changed.keys() - NOT_COMPARED or have_variants_changed(*changed.get("test_variants", ({}, {}))):
        return None
    wanted = {
        "spec": cell.as_dict(),
        "weights": hash_weights(method),
        "data_fingerprint": imageset.fingerprint,
        "commit": find_commit(),
    }
    return records if all(getattr(records.header, key) == value for key, value in wanted.items()) else None
