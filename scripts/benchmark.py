"""Measure what the code costs: data path, evaluation, heads, MAML, start-up, and the whole, time to an accuracy.

Where other libraries do the same, they are measured beside it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from fewshot import cli
from fewshot.reproduction import benchmarks


@dataclass
class BenchmarkConfig:
    """What is measured."""

    only: list[benchmarks.Section] = field(default_factory=lambda: list(benchmarks.SECTIONS))
    """these sections only"""
    dataset: str = "omniglot"
    """name of a data set, for drawing, training and evaluation"""
    n_episodes: int = 10000
    """episodes that our evaluator is timed on"""
    n_easyfsl_episodes: int = 100
    """episodes that easyfsl's loop is timed on"""
    target: float = 0.975
    """validation accuracy, 5-way 1-shot, that end-to-end trains to"""
    json: str = "benchmark.json"
    """file for the numbers"""


def main() -> None:
    """Parse; measure, print and write section by section: each takes minutes."""
    config = cli.parse(BenchmarkConfig, __doc__)
    script = Path(__file__).parent / "train_episodic.py"
    options = (config.dataset, config.n_episodes, config.n_easyfsl_episodes, script, config.target)
    numbers: benchmarks.Numbers = {}
    for section in config.only:
        print(f"[{section}]", flush=True)
        measured = benchmarks.measure(section, *options)
        width = max(map(len, measured))
        for name, values in measured.items():
            curve = values.get("curve", [])
            print(f"{name:{width}}  " + "  ".join(f"{k} {v:,.4g}" for k, v in values.items() if k != "curve"))
            for step, seconds, mean, half in curve:
                print(f"{'':{width}}  step {step}, {seconds:.1f} s: {100 * mean:.2f} ± {100 * half:.2f}%")
        numbers |= measured
        Path(config.json).write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
