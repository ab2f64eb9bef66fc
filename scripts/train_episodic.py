"""Train a few-shot method on episodes, keep the best weights on validation classes, measure on test classes."""

import sys
from dataclasses import replace

from fewshot import cli
from fewshot.config import ExperimentConfig
from fewshot.evaluation import report
from fewshot.evaluation.embed import device_of
from fewshot.experiments.build import cells_of, load_split, measure, new_run_dir, record_files, test_sets
from fewshot.experiments.starting import check_row_unseen, compared_methods, selected_on, starting_method
from fewshot.runtime import processes
from fewshot.training.tracking import track_tests
from fewshot.training.train import fit


def main() -> None:
    """Parse, build, train, measure, print."""
    config = cli.parse(ExperimentConfig, __doc__)
    config = replace(config, run_dir=config.run_dir or new_run_dir(config))
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    tests = test_sets(config)
    method = starting_method(config, train_set)
    for test_set in tests.values():
        check_row_unseen(method, config, train_set, test_set)  # before hours of training
    result = fit(method, train_set, val_set, config)
    methods, device = compared_methods(method, config, train_set), device_of(method)
    for name, test_set in tests.items():
        rows = {}
        for row, compared in methods.items():
            cells = cells_of(config, row)
            files = record_files(config, name, row, cells)
            chosen_on = selected_on(config.run_dir, row)
            overlap = check_row_unseen(compared, config, train_set, test_set, row)
            rows[row] = measure(compared.to(device), test_set, cells, config, chosen_on, files, overlap)
        about = {"run_dir": config.run_dir, "precision": config.precision, "step": result.best_step}
        track_tests(rows, next(iter(rows)), method.to(device), test_set, **about, test_set=name)
        if processes.is_first():
            print(f"\n{report.title(rows, name, config.method)}\n{report.table(rows)}")
            print(report.facts_of(rows))
    if processes.is_first():
        if config.test_floor and "raw pixels" not in methods:
            print(f"no row of raw pixels: {config.method} has weights to learn beside its backbone's, or needs one")
        trained = (f"{result.steps} steps in {result.seconds / 60:.1f} min; weights of step {result.best_step}, "
                   "the best on validation classes")  # fmt: skip
        print(f"\n{trained if config.max_steps else 'no episodic training'}\nrun folder:  {config.run_dir}\n"
              f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {config.run_dir}")  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
