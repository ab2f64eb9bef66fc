"""How far jobs are: lines for what begins and ends, and a line of what runs."""

import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

TAIL_BYTES = 4096  # of a log hold its last progress
BAR = re.compile(r"(\d+)/(\d+) \[[\d:]+<([\d:]+|\?)")  # of the progress bar of training
VALIDATION = re.compile(r"step \d+: validation (\d+\.\d+)")
TERMINAL_SECONDS, FILE_SECONDS = 1.0, 60.0  # between two lines of what runs


def read_progress(log: Path) -> str:
    """`step 190 of 500, 00:20 left, validation 91.20%`, from the end of a log; empty where it says nothing yet."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    bars, validations = BAR.findall(text), VALIDATION.findall(text)
    parts = []
    if bars:
        step, steps, left = bars[-1]
        parts += [f"step {step} of {steps}", f"{left} left"] if step != steps else ["measuring"]
    if validations:
        parts.append(f"validation {validations[-1]}%")
    return ", ".join(parts)


class Progress:
    """Prints lines, and on a terminal keeps one below them of what runs; elsewhere such a line comes once a minute."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs, self.n_ended = n_jobs, 0
        self.is_terminal = sys.stdout.isatty()
        self.shown_at = time.monotonic()
        self.line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Print a line."""
        self.close()
        print(text, flush=True)

    def end(self, text: str) -> None:
        """Print the line of a job that has ended."""
        self.n_ended += 1
        self.say(f"[{self.n_ended}/{self.n_jobs}] {text}")

    def show(self, running: Mapping[str, str]) -> None:
        """Print what runs, when it is time."""
        every = TERMINAL_SECONDS if self.is_terminal else FILE_SECONDS
        if not running or time.monotonic() - self.shown_at < every:
            return
        self.shown_at = time.monotonic()
        each = "; ".join(f"{title}: {how or 'starting'}" for title, how in running.items())
        line = f"[{self.n_ended}/{self.n_jobs}] running: {each}"
        if self.is_terminal:
            self.line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{self.line}", end="", flush=True)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Clear the line of what runs."""
        if self.line:
            print("\r\x1b[K", end="", flush=True)
            self.line = ""
