"""`fewshot train`: a method is trained on episodes, validated, and measured beside what it is compared with."""

import sys
from dataclasses import replace

from fewshot.config import ExperimentConfig
from fewshot.evaluation import report
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.build import list_cells, list_record_files, load_split, load_test_sets, measure, name_run_dir
from fewshot.experiments.options import check_options
from fewshot.experiments.starting import (
    build_compared_methods,
    build_starting_method,
    check_row_unseen,
    find_selected_on,
)
from fewshot.runtime import processes
from fewshot.runtime.devices import device_of
from fewshot.training.tracking import track_tests
from fewshot.training.train import train


def run(config: ExperimentConfig) -> None:
    """Train a method on episodes, measure it beside what it is compared with, and print a table.

    Args:
        config: the options of the subcommand.
    """
    check_options(config)
    run_dir = config.run_dir or name_run_dir(config)
    config = replace(config, run_dir=run_dir)
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    tests = {} if config.train_only else load_test_sets(config)
    method = build_starting_method(config, train_set)
    for test_set in tests.values():
        check_row_unseen(method, config, train_set, test_set)  # before hours of training
    result = train(method, train_set, val_set, config)
    methods, device = build_compared_methods(method, config, train_set), device_of(method)
    for name, test_set in tests.items():
        rows = {}
        for row, compared in methods.items():
            cells = list_cells(config, row)
            files = list_record_files(config, name, row, cells)
            chosen_on = find_selected_on(run_dir, row)
            overlap = check_row_unseen(compared, config, train_set, test_set, row)
            rows[row] = measure(compared.to(device), test_set, cells, config, chosen_on, files, overlap)
        track_tests(
            next(iter(rows)), rows, method.to(device), test_set, run_dir, config.precision, result.best_step, name
        )
        if processes.is_first():
            print(f"\n{report.format_title(rows, name, config.method)}\n{report.format_table(rows)}")
            print(report.format_all_facts(rows))
    if processes.is_first():
        if config.test_floor and RowKind.RAW_PIXELS not in methods and not config.train_only:
            print(f"no row of raw pixels: {config.method} has weights to learn beside its backbone's, or needs one")
        trained = (f"{result.steps} steps in {result.seconds / 60:.1f} min; weights of step {result.best_step}, "
                   "the best on validation classes")  # fmt: skip
        print(f"\n{trained if config.max_steps else 'no episodic training'}\nrun folder:  {run_dir}\n"
              f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {run_dir}")  # fmt: skip
        if config.train_only:
            print(f"to measure it: the same command with --resume --train_only false --run_dir {run_dir}")
