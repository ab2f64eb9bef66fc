"""Measure what the code costs: drawing, the data path, evaluation against easyfsl, memory, start-up."""

import json
from dataclasses import dataclass
from pathlib import Path

from fewshot import EpisodeSpec, TrainConfig, benchmark, cli, create_backbone, create_method, load_dataset, seeding


@dataclass
class BenchmarkConfig:
    """What is measured."""

    dataset: str = "omniglot"
    """name of a data set"""
    n_episodes: int = 10000
    """episodes that our evaluator is timed on"""
    n_easyfsl_episodes: int = 100
    """episodes that easyfsl's loop is timed on (0: it is left out)"""
    json: str = "benchmark.json"
    """file for the numbers"""


def main() -> None:
    """Parse, measure, print, write."""
    config = cli.parse(BenchmarkConfig, __doc__)
    train_set, test_set = load_dataset(config.dataset, "train"), load_dataset(config.dataset, "test")
    with seeding.forked(0):
        method = create_method("protonet", create_backbone("conv4", *train_set.image_shape[:2]))
    augmentation = {"rotation_degrees": 10.0, "scale": 0.1}
    numbers = {
        "drawing, 5-way 1-shot": {"episodes/s": benchmark.episodes_per_second(test_set, EpisodeSpec(5, 1, 15))},
        "data path, 60-way": benchmark.data_path(method, train_set, TrainConfig(train_n_way=60), "auto"),
        "data path, 60-way, augmented": benchmark.data_path(
            method, train_set, TrainConfig(train_n_way=60, augmentation=augmentation), "auto"),
        "evaluation, episodes/s": benchmark.evaluation(method, test_set, config.n_episodes, config.n_easyfsl_episodes)
        if config.n_easyfsl_episodes else {},
        "memory of evaluation": benchmark.evaluation_memory(config.dataset),
        "start-up": benchmark.start_up(Path(__file__).parent / "train_episodic.py"),
    }  # fmt: skip
    for name, values in numbers.items():
        print(f"{name:32}" + "  ".join(f"{key} {value:,.4g}" for key, value in values.items()))
    Path(config.json).write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
