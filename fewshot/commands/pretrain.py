"""`fewshot pretrain`: trains a classifier of the base classes, stage 1 of two-stage methods."""

from fewshot.commands.experiment import describe_folder, describe_training, load_sets, measure_rows
from fewshot.config import PretrainExperimentConfig
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.build import build_classifier
from fewshot.experiments.starting import check_row_unseen
from fewshot.runtime import processes
from fewshot.training.train import train


def run(config: PretrainExperimentConfig) -> None:
    """Train a classifier of the base classes, measure it on test episodes, and print a table.

    Args:
        config: the options of the subcommand.
    """
    config, train_set, val_set, test_sets = load_sets(config)
    method = build_classifier(config, train_set.image_shape, train_set.n_classes)
    for test_set in test_sets.values():
        check_row_unseen(method, config, train_set, test_set)  # raises now, not after hours of training
    result = train(method, train_set, val_set, config)
    measure_rows(config, {RowKind.CLASSIFIER: method}, train_set, test_sets, result.best_step)
    if processes.is_first():
        print(f"\n{describe_training(result, f' on {train_set.n_classes} base classes')}\n"
              f"{describe_folder(config)}\n"
              f"next:        python scripts/train_episodic.py --pretrained_run {config.run_dir} "
              f"--dataset {config.dataset} --backbone {config.backbone}")  # fmt: skip
