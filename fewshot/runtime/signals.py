"""Ctrl-C and SIGTERM ask training to stop between two steps."""

import signal
import threading
from types import FrameType
from typing import NoReturn, Self

from fewshot.runtime import processes


class Interrupted(SystemExit):
    """Raised after a signal stopped a run and its state was saved; the exit status is 128 + signal."""


class Interruption:
    """Within the block the first SIGINT or SIGTERM only sets a flag; a second one acts as usual."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def was_requested(self) -> bool:
        """Whether a signal asked any process to stop."""
        return processes.any_true(bool(self.signal))

    def leave(self, message: str) -> NoReturn:
        """Print `message` and exit with the status of the signal."""
        if processes.is_first():
            print(message, flush=True)
        raise Interrupted(128 + (self.signal or signal.SIGTERM))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number])  # type: ignore[arg-type]
