"""Processes of this machine, each on cores of its own."""

import os
import subprocess
from collections.abc import Sequence
from itertools import pairwise

import torch

from fewshot.errors import ConfigError
from fewshot.reproduction.launchers.jobs import Job


class LocalLauncher:
    """Runs `n_jobs` processes at a time, each on its own share of the cores and, of several GPUs, on one of them.

    One process at a time is left all cores and GPUs, as if it had been started by hand.

    Args:
        n_jobs: how many run at a time.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_places = n_jobs
        self.shares = share_cores(sorted(os.sched_getaffinity(0)), n_jobs)

    def start(self, job: Job, place: int) -> "LocalProcess":
        """Start the command of `job` on the cores of `place`."""
        pinned = self.n_places > 1
        environment = {**os.environ, **(self._describe_place(place) if pinned else {})}
        with job.log.open("a") as log:
            child = subprocess.Popen(
                job.words(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        if pinned:
            os.sched_setaffinity(child.pid, self.shares[place])  # its threads, which come later, take over the same
        return LocalProcess(child)

    def _describe_place(self, place: int) -> dict[str, str]:
        """What the environment says of the place: threads, unless the user said it, and one of several GPUs."""
        said = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(len(self.shares[place])))}
        n_gpus = torch.cuda.device_count()
        if n_gpus > 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(n_gpus)))).split(",")
            said["CUDA_VISIBLE_DEVICES"] = visible[place % n_gpus]
        return said


class LocalProcess:
    """A process of this machine."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self.child.poll()

    def stop(self) -> None:
        """Ask it to save its state and end, and wait until it has."""
        self.child.terminate()  # a Ctrl-C of the terminal has told it already
        self.child.wait()


def share_cores(cores: Sequence[int], n_jobs: int) -> list[list[int]]:
    """Cores for each of `n_jobs` places: neighbours, as equally many as there are.

    Raises:
        ConfigError: there are fewer cores than places.
    """
    if n_jobs > len(cores):
        raise ConfigError(f"n_jobs={n_jobs}, but this process may use only {len(cores)} CPU cores")
    bounds = [len(cores) * place // n_jobs for place in range(n_jobs + 1)]
    return [list(cores[low:high]) for low, high in pairwise(bounds)]
