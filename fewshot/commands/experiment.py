"""What the commands train and pretrain share: they load the data before training, and print test tables after it."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.datasets import ImageSet
from fewshot.evaluation import report
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.base_classes import load_base_classes
from fewshot.experiments.build import (
    list_record_files,
    load_split,
    load_test_sets,
    measure,
)
from fewshot.experiments.cells import list_cells
from fewshot.experiments.options import check_options
from fewshot.experiments.run_names import name_run_dir
from fewshot.experiments.starting import check_row_unseen, find_selected_on
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.devices import device_of
from fewshot.runtime.files import check_writable
from fewshot.training.result import TrainingResult
from fewshot.training.run_folder import RunFolder
from fewshot.training.tracking import track_tests

NOT_OF_BASE_CLASSES = (RowKind.UNTRAINED, RowKind.RAW_PIXELS, RowKind.PRETRAINED)  # references, which nothing adapts
Config = TypeVar("Config", ExperimentConfig, PretrainExperimentConfig)


def load_sets(config: Config) -> tuple[Config, ImageSet, ImageSet, dict[str, ImageSet]]:
    """Check the options, name the run folder, and load training, validation and test sets."""
    check_options(config)
    config = replace(config, run_dir=config.run_dir or name_run_dir(config))
    check_writable(RunFolder(str(config.run_dir)).last)
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    return config, train_set, val_set, load_test_sets(config, train_set.image_shape)


def measure_rows(
    config: ExperimentConfig | PretrainExperimentConfig,
    methods: Mapping[str, Method],
    train_set: ImageSet,
    test_sets: Mapping[str, ImageSet],
    step: int,
) -> None:
    """Measure the rows of the test table on each test set, print the table and show it in TensorBoard.

    `methods`: by row, first the one that this run has trained; `step`: that its weights are of.
    """
    assert config.run_dir is not None, "load_sets names the folder"
    own_row, own = next(iter(methods.items()))
    device = device_of(own)
    for name, test_set in test_sets.items():
        rows = {}
        for row, method in methods.items():
            cells = list_cells(config, row)
            files = list_record_files(config, name, row, cells)
            selected_on = find_selected_on(config.run_dir, row)
            overlap = check_row_unseen(method, config, train_set, test_set, row)
            method = method.to(device)
            base = None
            if config.test_base_images and row not in NOT_OF_BASE_CLASSES:
                base = load_base_classes(config, method, config.test_base_images, config.run_dir)
            rows[row] = measure(method, test_set, cells, config, selected_on, files, overlap, base)
        track_tests(own_row, rows, own.to(device), test_set, config.run_dir, config.precision, step, name)
        if processes.is_first():
            print(f"\n{report.format_title(rows, name, config.trained_name)}\n{report.format_table(rows)}")
            print(report.format_all_facts(rows))


def describe_training(result: TrainingResult, on: str = "") -> str:
    """Describe how long training took and which weights were kept; `on`: what it trained on."""
    return (
        f"{result.steps} steps in {result.seconds / 60:.1f} min{on}; "
        f"weights of step {result.best_step}, the best on validation classes"
    )


def describe_folder(config: ExperimentConfig | PretrainExperimentConfig) -> str:
    """Describe where the run is stored, and the commands that show it and, after `train_only`, measure it."""
    lines = [
        f"run folder:  {config.run_dir}",
        f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {config.run_dir}",
    ]
    if config.train_only:
        lines.append(f"to measure it: the same command with --resume --train_only false --run_dir {config.run_dir}")
    return "\n".join(lines)
