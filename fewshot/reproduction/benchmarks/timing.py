"""Measures wall time and memory of functions and processes."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

# VmHWM, because a child process inherits ru_maxrss from its parent.
PEAK = "print('peak', [l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"


def measure_median_seconds(run: Callable[[], object], repeats: int, warmup: int = 1) -> float:
    """Measure the median wall time of `run`."""
    seconds = []
    for _ in range(warmup + repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warmup:])


def measure_in_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Measure the median seconds of each run by `clock`, in turns, so that a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + repeats):
        for name, run in runs.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def measure_process_seconds(command: list[str], repeats: int = 5) -> float:
    """Measure the median wall time of a whole process."""
    return measure_median_seconds(lambda: subprocess.run(command, check=True, capture_output=True), repeats)


def measure_peak_mib(code: str) -> float:
    """Measure the peak resident memory of a Python process that runs `code`, MiB."""
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PEAK}"], check=True, capture_output=True, text=True
    ).stdout
    return float(output.split("peak")[-1]) / 1024
