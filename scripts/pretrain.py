"""Train a classifier of the base classes, stage 1 of two-stage methods, and measure it on episodes of test classes.

Validation and test are few-shot episodes, by the cosine to the mean of each class's support features; the weights
kept are the best on validation classes. scripts/train_episodic.py starts from them with --pretrained_run FOLDER.
"""

import sys
from dataclasses import replace

from fewshot import cli
from fewshot.config import PretrainExperimentConfig
from fewshot.evaluation import report
from fewshot.experiments.build import (
    build_classifier,
    load_split,
    measure,
    new_run_dir,
    record_files,
    test_cells,
    test_sets,
)
from fewshot.experiments.starting import check_row_unseen, selected_on
from fewshot.runtime import processes
from fewshot.training.tracking import track_tests
from fewshot.training.train import fit


def main() -> None:
    """Parse, build, train, measure, print."""
    config = cli.parse(PretrainExperimentConfig, __doc__)
    config = replace(config, run_dir=config.run_dir or new_run_dir(config))
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    tests, cells = test_sets(config), test_cells(config)
    method = build_classifier(config, train_set.image_shape, train_set.n_classes)
    overlaps = {name: check_row_unseen(method, config, train_set, test_set) for name, test_set in tests.items()}
    result = fit(method, train_set, val_set, config)
    for name, test_set in tests.items():
        files = record_files(config, name, "classifier-baseline", cells)
        records = measure(method, test_set, cells, config, selected_on(config.run_dir), files, overlaps[name])
        rows = {"classifier-baseline": records}
        about = {"run_dir": config.run_dir, "precision": config.precision, "step": result.best_step}
        track_tests(rows, "classifier-baseline", method, test_set, **about, test_set=name)
        if processes.is_first():
            print(f"\n{report.title(rows, name, config.trained_name)}\n{report.table(rows)}")
            print(report.facts(rows["classifier-baseline"][0]))
    if processes.is_first():
        print(f"\n{result.steps} steps in {result.seconds / 60:.1f} min on {train_set.n_classes} base classes; "
              f"weights of step {result.best_step}, the best on validation classes\nrun folder:  {config.run_dir}\n"
              f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {config.run_dir}\n"
              f"next:        python scripts/train_episodic.py --pretrained_run {config.run_dir} "
              f"--dataset {config.dataset} --backbone {config.backbone}")  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
