"""Runs commands as local processes or as Slurm jobs, and queues them."""

from collections.abc import Mapping
from typing import Any

from fewshot.config.reproduction import LaunchConfig
from fewshot.errors import ConfigError
from fewshot.reproduction.launchers.jobs import Job, Launcher, Outcome, run_jobs
from fewshot.reproduction.launchers.local import LocalLauncher

__all__ = ["Job", "Launcher", "LocalLauncher", "Outcome", "make_launcher", "run_jobs"]


def make_launcher(config: LaunchConfig, folder: str) -> Launcher:
    """Make the launcher that the options name.

    Args:
        config: the options `launcher`, `n_jobs` and `slurm`.
        folder: for what the launcher itself writes.

    Raises:
        ConfigError: it cannot be used as it is asked for.
    """
    if config.launcher == "local":
        _refuse_slurm_options(config.slurm)
        return LocalLauncher(config.n_jobs or 1)
    from fewshot.reproduction.launchers.slurm import SlurmLauncher  # imports submitit, an extra

    return SlurmLauncher(folder, config.n_jobs, config.slurm)


def _refuse_slurm_options(options: Mapping[str, Any]) -> None:
    if options:
        raise ConfigError(f"options of slurm without --launcher slurm: {', '.join(sorted(options))}")
