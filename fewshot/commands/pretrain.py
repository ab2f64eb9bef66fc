"""`fewshot pretrain`: stage 1 of two-stage methods, a classifier of the base classes."""

import sys
from dataclasses import replace

from fewshot.config import PretrainExperimentConfig
from fewshot.evaluation import report
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.build import (
    build_classifier,
    list_record_files,
    list_test_cells,
    load_split,
    load_test_sets,
    measure,
    name_run_dir,
)
from fewshot.experiments.options import check_options
from fewshot.experiments.starting import check_row_unseen, find_selected_on
from fewshot.runtime import processes
from fewshot.training.tracking import track_tests
from fewshot.training.train import train


def run(config: PretrainExperimentConfig) -> None:
    """Train a classifier of the base classes, measure it on test episodes, and print a table.

    Args:
        config: the options of the subcommand.
    """
    check_options(config)
    run_dir = config.run_dir or name_run_dir(config)
    config = replace(config, run_dir=run_dir)
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    tests = {} if config.train_only else load_test_sets(config)
    cells = list_test_cells(config)
    method = build_classifier(config, train_set.image_shape, train_set.n_classes)
    overlaps = {name: check_row_unseen(method, config, train_set, test_set) for name, test_set in tests.items()}
    result = train(method, train_set, val_set, config)
    for name, test_set in tests.items():
        files = list_record_files(config, name, RowKind.CLASSIFIER, cells)
        records = measure(method, test_set, cells, config, find_selected_on(run_dir), files, overlaps[name])
        rows = {RowKind.CLASSIFIER.value: records}
        track_tests(RowKind.CLASSIFIER, rows, method, test_set, run_dir, config.precision, result.best_step, name)
        if processes.is_first():
            print(f"\n{report.format_title(rows, name, config.trained_name)}\n{report.format_table(rows)}")
            print(report.format_facts(records[0]))
    if processes.is_first():
        print(f"\n{result.steps} steps in {result.seconds / 60:.1f} min on {train_set.n_classes} base classes; "
              f"weights of step {result.best_step}, the best on validation classes\nrun folder:  {run_dir}\n"
              f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {run_dir}\n"
              f"next:        python scripts/train_episodic.py --pretrained_run {run_dir} "
              f"--dataset {config.dataset} --backbone {config.backbone}")  # fmt: skip
        if config.train_only:
            print(f"to measure it: the same command with --resume --train_only false --run_dir {run_dir}")
