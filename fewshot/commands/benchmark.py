"""`fewshot benchmark`: measures time and memory, in sections that take minutes each."""

import json
import sys
from pathlib import Path

from fewshot.commands.recipes import find_recipes
from fewshot.config.reproduction import BenchmarkConfig
from fewshot.reproduction import benchmarks
from fewshot.reproduction.benchmarks.gpu import runner
from fewshot.runtime.files import check_writable, write_whole


def run(config: BenchmarkConfig) -> None:
    """Measure how fast a part of the library is, print the numbers, and write them as JSON.

    Args:
        config: the options of the subcommand.
    """
    if config.suite == "gpu":
        failures = runner.measure(Path(config.out), config.parts, config.dry)
        if failures:
            sys.exit("\n".join(["failed:", *failures]))
        return
    check_writable(config.json)
    script = find_recipes().parent / "train_episodic.py"
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
        write_whole(config.json, json.dumps(numbers, indent=2) + "\n")
