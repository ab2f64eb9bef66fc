"""What the code does and costs on one GPU: parts that run one after the other, each in a process of its own.

With `dry` the same functions run on toy sizes on the CPU: they are tried, not timed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot.errors import ConfigError
from fewshot.reproduction.benchmarks.gpu import heads, steps, tests, training
from fewshot.reproduction.benchmarks.gpu.steps import Numbers
from fewshot.runtime.files import write_whole
from fewshot.runtime.memory import measure_peak_mib
from fewshot.runtime.provenance import find_commit

DRY_SECONDS = 900  # a busy CPU may take long
RESULT = "gpu.json"


@dataclass(frozen=True)
class Part:
    """One measurement.

    `measure(device, out, dry)` gives its numbers; a measurement that lacks one of `keys` has failed. `seconds`: what it
    may take on a GPU.
    """

    measure: Callable[[torch.device, Path, bool], Numbers]
    seconds: float
    keys: tuple[str, ...]


PARTS = {
    "device": Part(steps.describe_device, 30, ("name", "memory_mib", "torch", "python", "bf16_tflops")),
    "tests": Part(tests.run_gpu_tests, 150, ("n_passed", "n_failed", "n_skipped")),
    "steps": Part(steps.measure_steps, 90, tuple(steps.STEPS)),
    "compiled": Part(steps.measure_compiled_steps, 150, steps.COMPILED),
    "training": Part(training.measure_training, 120, ("eager", "compiled")),
    "maml": Part(training.measure_maml, 90, ("1 inner step", "5 inner steps")),
    "evaluation": Part(heads.measure_evaluation, 60, heads.FEATURE_METHODS),
    "heads": Part(heads.measure_heads, 60, ("Baseline, the authors' SGD", "logistic regression")),
    "estimator": Part(heads.measure_photographs, 60, ("predicted_images_per_s", "decoded_images_per_s")),
}


def measure(out: Path, names: Sequence[str], dry: bool) -> list[str]:
    """Run the parts called `names` (all where there are none), and write `out/gpu.json` after each.

    Returns:
        What failed, a line for each part.

    Raises:
        ConfigError: a name is not one of `PARTS`.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ConfigError(f"parts: {', '.join(unknown)} are not among {', '.join(PARTS)}")
    out.mkdir(parents=True, exist_ok=True)
    numbers: Numbers = {"commit": find_commit(), "date": time.strftime("%Y-%m-%d"), "dry": dry}
    failures = []
    for name in names or PARTS:
        started = time.perf_counter()
        numbers[name] = _run_apart(name, out, dry)
        numbers[name]["seconds"] = round(time.perf_counter() - started, 1)
        write_whole(out / RESULT, json.dumps(numbers, indent=2) + "\n")
        problem = numbers[name].get("failed", "")
        failures += [f"{name}: {problem}"] if problem else []
        print(f"{name}: {problem or 'done'} ({numbers[name]['seconds']} s)", flush=True)
    return failures


def _run_apart(name: str, out: Path, dry: bool) -> Numbers:
    """The numbers of a part, measured in a process of its own; under `failed` what went wrong, if anything did."""
    limit = DRY_SECONDS if dry else PARTS[name].seconds
    command = [sys.executable, "-m", __name__, name, str(out), str(int(dry))]
    result = out / f"{name}.json"
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit} s"}
    if ran.returncode:
        (out / f"{name}.txt").write_text(ran.stderr)  # where it failed
        return {"failed": (ran.stderr.strip().splitlines() or ["no message"])[-1]}
    numbers = json.loads(result.read_text())
    result.unlink()
    return numbers


def run_part(name: str, out: Path, dry: bool) -> None:
    """Measure one part on the GPU, or on the CPU if `dry`, and write its numbers to `out/<name>.json`."""
    device = torch.device("cpu" if dry else "cuda")
    with torch._dynamo.config.patch(
        disable=dry
    ):  # torch.compile then leaves the code as it is: compiling takes minutes
        numbers: dict[str, Any] = PARTS[name].measure(device, out, dry)
    missing = [key for key in PARTS[name].keys if key not in numbers]
    if missing:
        raise KeyError(f"the part {name} has no number for {', '.join(missing)}")
    on_gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    numbers["peak_mib"] = {"gpu": round(on_gpu), "process": round(measure_peak_mib() or 0)}
    (out / f"{name}.json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    run_part(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1")
