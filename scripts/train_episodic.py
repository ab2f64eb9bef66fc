"""Train a few-shot method on episodes, keep the best weights on validation classes, measure on test classes."""

import sys
from dataclasses import replace

from fewshot import cli, parallel, report
from fewshot.config import ExperimentConfig
from fewshot.experiment import build_method, load_split, measure, new_run_dir, test_cells, test_sets
from fewshot.run_folder import RunFolder
from fewshot.train import fit


def main() -> None:
    """Parse, build, train, measure, print."""
    config = cli.parse(ExperimentConfig, __doc__)
    config = replace(config, run_dir=config.run_dir or new_run_dir(config))
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    method = build_method(config, train_set.image_shape)
    result = fit(method, train_set, val_set, config)
    folder, cells = RunFolder(config.run_dir), test_cells(config)
    columns = [f"{cell.n_way}-way {cell.n_shot}-shot" for cell in cells]
    for name, test_set in test_sets(config):
        methods = {
            f"{config.method}, trained": method,
            f"{config.method}, untrained": build_method(config, train_set.image_shape),
            f"{config.method}, raw pixels": build_method(config, train_set.image_shape, backbone="pixels"),
        }
        rows = {row: measure(measured.to(next(method.parameters()).device), test_set, cells, config)
                for row, measured in methods.items()}  # fmt: skip
        if parallel.is_first():
            for row, records in rows.items():
                for column, record in zip(columns, records, strict=True):
                    record.write(folder.records("-".join([name, row, column]).replace(", ", "-").replace(" ", "-").strip("-")))
            print(f"\nTest classes, never seen in training{f' ({name})' if name else ''}")
            print(report.table(rows, columns))
            print(report.facts(next(iter(rows.values()))[0]))
    if parallel.is_first():
        print(f"\n{result.steps} steps in {result.seconds / 60:.1f} min; weights of step {result.best_step}, "
              f"the best on validation classes\nrun folder:  {config.run_dir}\n"
              f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {config.run_dir}")  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
