"""A queue of commands: started as places become free, watched, tried once more where they fail, stopped with care."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fewshot.reproduction.launchers.progress import Progress, read_progress
from fewshot.runtime.signals import Interruption

LOG_LINES = 10  # of a failed job are shown
POLL_SECONDS = 0.1


class Process(Protocol):
    """A command that was started."""

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""

    def stop(self) -> None:
        """Ask it to save its state and end, and wait until it has."""


class Launcher(Protocol):
    """Starts commands, at most `n_places` at a time."""

    n_places: int

    def start(self, job: "Job", place: int) -> Process:
        """Start the command of `job`, its output appended to `job.log`; `place`: from 0 to n_places - 1."""


@dataclass(frozen=True)
class Job:
    """A command whose work is kept in files, so that it can be stopped and go on.

    `begun`: where this file is, the command goes on with `--resume`. `is_done`: whether everything that it makes is
    there. `describe`: one line on what it reached. `needs`: the title of a job that must have ended well before.
    """

    title: str
    command: tuple[str, ...]
    log: Path
    begun: Path
    is_done: Callable[[], bool]
    describe: Callable[[], str]
    needs: str = ""

    def words(self) -> list[str]:
        """The words of the command, as it is started now."""
        return [*self.command, *(["--resume"] if self.begun.exists() else [])]


@dataclass
class Outcome:
    """How the jobs ended: `failed`, also those that need one of these; `left`, since time was up."""

    failed: list[Job] = field(default_factory=list)
    left: list[Job] = field(default_factory=list)


def run_jobs(
    jobs: Sequence[Job],
    launcher: Launcher,
    deadline: float = float("inf"),
    finish: Callable[[Job], None] = lambda job: None,
) -> Outcome:
    """Run what is not done, and print a line for each job; a job that fails is tried once more, after the others.

    Args:
        jobs: in the order of starting; those that a job needs stand before it.
        launcher: starts them.
        deadline: of `time.monotonic`; then what runs is stopped, and nothing more is started.
        finish: called for each job that has ended well, or had before.

    Returns:
        Which jobs failed, and which are left.
    """
    return _Queue(jobs, launcher, deadline, finish).run()


class _Queue:
    def __init__(self, jobs: Sequence[Job], launcher: Launcher, deadline: float, finish: Callable[[Job], None]) -> None:
        self.launcher, self.deadline, self.finish = launcher, deadline, finish
        self.waiting: deque[Job] = deque()
        self.running: dict[int, tuple[Job, Process]] = {}  # by place
        self.tried: set[str] = set()
        self.outcome = Outcome()
        self.progress = Progress(len(jobs))
        self.jobs = jobs

    def run(self) -> Outcome:
        with Interruption() as interruption, self.progress:
            for job in self.jobs:
                if job.is_done():
                    self._end_well(job, "  (had run)")
                else:
                    self.waiting.append(job)
            while self.waiting or self.running:
                late = time.monotonic() >= self.deadline
                if late or interruption.was_requested():
                    stopped = self._stop()
                    if not late:
                        self.progress.close()
                        interruption.leave(
                            f"stopped{' in ' * bool(stopped)}{'; '.join(stopped)}; the same command goes on from there"
                        )
                    break
                self._start()
                self._collect()
                self.progress.show({job.title: read_progress(job.log) for job, _ in self.running.values()})
                time.sleep(POLL_SECONDS)
        return self.outcome

    def _start(self) -> None:
        """Start what can be started, in order."""
        free = [place for place in range(self.launcher.n_places) if place not in self.running]
        for job in [*self.waiting]:
            if job.needs in {failed.title for failed in self.outcome.failed}:
                self.waiting.remove(job)
                self.outcome.failed.append(job)
                self.progress.end(f"{job.title}: FAILED, not started: {job.needs}, which it needs, failed")
            elif free and not self._is_awaited(job.needs):
                self.waiting.remove(job)
                place = free.pop(0)
                job.log.parent.mkdir(parents=True, exist_ok=True)
                self.progress.say(f"{job.title}: running, output in {job.log}")
                self.running[place] = (job, self.launcher.start(job, place))

    def _is_awaited(self, title: str) -> bool:
        others = [*self.waiting, *(job for job, _ in self.running.values())]
        return any(other.title == title for other in others)

    def _collect(self) -> None:
        for place, (job, process) in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            del self.running[place]
            if status == 0 and job.is_done():
                self._end_well(job)
                continue
            problem = _describe_failure(job, status)
            if job.title in self.tried:
                self.outcome.failed.append(job)
                self.progress.end(f"{job.title}: FAILED twice, {problem}")
            else:
                self.tried.add(job.title)
                self.waiting.append(job)
                self.progress.say(f"{job.title}: failed, tried once more: {problem}")

    def _end_well(self, job: Job, remark: str = "") -> None:
        self.finish(job)
        self.progress.end(f"{job.title}: {job.describe()}{remark}")

    def _stop(self) -> list[str]:
        """Stop what runs; the titles. What is left stands in the outcome, in the order of the jobs."""
        titles = [job.title for job, _ in self.running.values()]
        for _, process in self.running.values():
            process.stop()
        left = {*titles, *(job.title for job in self.waiting)}
        self.outcome.left = [job for job in self.jobs if job.title in left]
        return titles


def _describe_failure(job: Job, status: int) -> str:
    """Its exit status and the last lines of its log."""
    text = job.log.read_text(errors="replace") if job.log.exists() else ""
    lines = [line.split("\r")[-1] for line in text.splitlines()[-LOG_LINES:]]
    return "\n    ".join([f"exit status {status}; the end of {job.log}:", *lines])
