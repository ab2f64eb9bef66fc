"""Jobs of Slurm, by submitit (the extra `slurm`), whose engine also runs them on this machine to try them out."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.errors import ConfigError
from fewshot.reproduction.launchers.jobs import Job

try:
    import submitit
except ImportError as error:
    raise ConfigError("--launcher slurm needs submitit: pip install 'fewshot[slurm]'") from error

QUEUE = 100  # jobs that are submitted at a time, where n_jobs does not say it
USUAL = {"name": "fewshot", "timeout_min": 240, "cpus_per_task": 2}


class SlurmLauncher:
    """Submits each command as a job of Slurm; one that reaches its time limit or is preempted is submitted again.

    Args:
        folder: for scripts and logs of submitit; every machine must see it.
        n_jobs: how many are submitted at a time (default: 100).
        options: of submitit's `update_parameters`, such as timeout_min, cpus_per_task, gpus_per_node, slurm_partition;
            and `cluster`: slurm (default), or local, which runs the jobs on this machine.

    Raises:
        ConfigError: there is no Slurm here, or an option is unknown.
    """

    def __init__(self, folder: str | Path, n_jobs: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        given = {**USUAL, **(options or {})}
        cluster = given.pop("cluster", "slurm")
        self.n_places = n_jobs or QUEUE
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self.executor.update_parameters(**given)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise ConfigError(f"slurm: {error}") from error

    def start(self, job: Job, place: int) -> "SlurmProcess":
        """Submit the command of `job`."""
        command = RunCommand(tuple(job.words()), str(job.log), str(job.begun))
        return SlurmProcess(self.executor.submit(command), job.log)


class SlurmProcess:
    """A job that was submitted."""

    def __init__(self, job: "submitit.Job[int]", log: Path) -> None:
        self.job, self.log = job, log

    def poll(self) -> int | None:
        """The exit status of its command, 1 where Slurm ended it, None while it waits or runs."""
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return self.job.result()
        with self.log.open("a") as log:
            log.write(f"job {self.job.job_id}, {self.job.state}: {error}\n")
        return 1

    def stop(self) -> None:
        """Cancel it, and wait until it has saved its state."""
        self.job.cancel()
        self.job.wait()


@dataclass
class RunCommand:
    """Runs a command inside a job, its output appended to a file; the exit status.

    `begun`: where this file is, the command can go on with `--resume`.
    """

    command: Sequence[str]
    log: str
    begun: str

    def __call__(self) -> int:
        """Run it."""
        with (
            open(self.log, "a") as log,
            subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as child,
        ):
            try:
                return child.wait()
            except KeyboardInterrupt:  # how submitit's own engine cancels
                child.terminate()
                return child.wait()

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What submitit submits in its place when time is up: the same command, going on."""
        words = [word for word in self.command if word != "--resume"]
        again = [*words, *(["--resume"] if Path(self.begun).exists() else [])]
        return submitit.helpers.DelayedSubmission(RunCommand(again, self.log, self.begun))
