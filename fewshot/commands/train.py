"""`fewshot train`: trains a method on episodes, and measures it and what it is compared with."""

from fewshot.commands.experiment import describe_folder, describe_training, load_sets, measure_rows
from fewshot.config import ExperimentConfig
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.starting import build_compared_methods, build_starting_method, check_row_unseen
from fewshot.runtime import processes
from fewshot.training.train import train


def run(config: ExperimentConfig) -> None:
    """Train a method on episodes, measure it beside what it is compared with, and print a table.

    Args:
        config: the options of the subcommand.
    """
    config, train_set, val_set, test_sets = load_sets(config)
    method = build_starting_method(config, train_set)
    for test_set in test_sets.values():
        check_row_unseen(method, config, train_set, test_set)  # raises now, not after hours of training
    result = train(method, train_set, val_set, config)
    methods = build_compared_methods(method, config, train_set)
    measure_rows(config, methods, train_set, test_sets, result.best_step)
    if processes.is_first():
        if config.test_floor and RowKind.RAW_PIXELS not in methods and not config.train_only:
            print(f"no row of raw pixels: {config.method} has weights to learn beside its backbone's, or needs one")
        trained = describe_training(result) if config.max_steps else "no episodic training"
        print(f"\n{trained}\n{describe_folder(config)}")
