"""The folder of a run: configuration, checkpoints, records and TensorBoard events."""

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewshot.config import TrainingOptions, as_dict, find_differing_options
from fewshot.errors import ConfigError, FewShotError
from fewshot.runtime import processes
from fewshot.runtime.files import write_whole
from fewshot.runtime.plugins import list_loaded_plugins

logger = logging.getLogger(__name__)

# Options that may differ when a run is resumed.
NOT_COMPARED = {
    "resume", "run_dir", "data_root", "plugins", "test_floor", "test_variants", "allow_seen_classes", "profile_step",
    "train_only",
}  # fmt: skip


class RunFolder:
    """The paths inside a folder that holds one run of one configuration."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self.tensorboard = self.path / "tensorboard"
        self.plugins = self.path / "plugins.json"  # digests of the plugins that were loaded when the run began
        self.training_sets = self.path / "training_sets.safetensors"  # classes and images that it was trained on

    def records(self, *names: str) -> Path:
        """The file for the records of a test cell, always inside this folder.

        `names`: of a test set, a row of the test table and the cell.
        """
        name = re.sub(r"[\s/\\\x00]", "-", "-".join(filter(None, names)))
        return self.path / "records" / f"{name}.jsonl"

    def read_config(self) -> dict[str, Any]:
        """Read the configuration of the run."""
        if not self.config.is_file():
            raise ConfigError(f"{self.path} is no run folder: there is no {self.config.name} in it")
        return json.loads(self.config.read_text())

    def check_plugins(self) -> None:
        """Warn if a plugin has changed since the run began, as its results may differ from those of the run."""
        begun = json.loads(self.plugins.read_text()) if self.plugins.exists() else {}
        for name, digest in list_loaded_plugins().items():
            if begun.get(name, digest) != digest:
                logger.warning("%s: the plugin %s has changed since this run began", self.path, name)

    def refuse_other(self, config: TrainingOptions, advice: str) -> None:
        """Raise `ConfigError` if the folder holds a run of another configuration."""
        differing = [
            f"{key}: {there!r} there, {now!r} now"
            for key, (there, now) in find_differing_options(self.read_config(), config).items()
            if key not in NOT_COMPARED
        ]
        if differing:
            raise ConfigError(f"{self.path} holds a run with another configuration ({'; '.join(differing)}): {advice}")

    def claim(self, config: TrainingOptions, resume: bool) -> None:
        """Create the folder for a new run of `config`, or check that its run of `config` can be resumed."""
        if not self.config.exists():
            if resume:
                raise ConfigError(f"nothing to resume: {self.path} holds no run")
            if list_loaded_plugins():
                write_whole(self.plugins, json.dumps(list_loaded_plugins(), indent=2) + "\n")
            write_whole(self.config, json.dumps(as_dict(config), indent=2) + "\n")
            return
        self.refuse_other(config, "choose another --run_dir, or use the configuration of that run")
        self.check_plugins()
        if not resume:
            raise ConfigError(f"{self.path} already holds this run; go on with --resume, or choose another --run_dir")


@contextmanager
def run_folder(path: str | None, config: TrainingOptions, resume: bool) -> Iterator[RunFolder]:
    """Claim the folder at `path` in the first process; without a path, use a temporary folder and remove it."""
    with tempfile.TemporaryDirectory(prefix="fewshot-") as temporary:
        folder = RunFolder(processes.broadcast_first(path or temporary))
        problem = None
        if processes.is_first():
            try:
                folder.claim(config, resume)
            except (FewShotError, OSError) as error:
                problem = error
        problem = processes.broadcast_first(problem)
        if problem:
            raise problem
        yield folder
        processes.barrier()
