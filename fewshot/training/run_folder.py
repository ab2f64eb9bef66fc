"""The folder of a run: configuration, checkpoints, records and TensorBoard events."""

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fewshot.config import AnyConfig, TrainingOptions, as_dict, find_differing_options, read_saved
from fewshot.errors import ConfigError, DataError, FewShotError
from fewshot.runtime import processes
from fewshot.runtime.files import follow_links, read_json, write_whole
from fewshot.runtime.plugins import list_loaded_plugins

logger = logging.getLogger(__name__)

UNENDING = ("constant", "halve")  # schedules whose learning rate at a step is the same for any max_steps
# Options that may differ when a run is resumed.
NOT_COMPARED = {
    "resume", "run_dir", "data_root", "plugins", "test_floor", "test_variants", "allow_seen_classes", "profile_step",
    "train_only", "compile", "log_every_steps", "checkpoint_every_steps",
}  # fmt: skip


class RunFolder:
    """The paths inside a folder that holds one run of one configuration."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        older = self.path / "tensorboard"  # of runs of earlier versions
        self.tensorboard = older if older.is_dir() else self.path  # TensorBoard calls a run by this folder
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
        try:
            return read_json(self.config, "configuration of a run")
        except DataError as error:
            raise ConfigError(str(error)) from error

    def load_config(self) -> AnyConfig:
        """The configuration that the run was made with, of its kind; plugins are found from the current folder."""
        config = read_saved(self.read_config(), self.config)
        return replace(config, plugins=[self._find_plugin(plugin) for plugin in config.plugins])

    def find_held_options(self, config: TrainingOptions) -> dict[str, Any]:
        """Options that hold where the run goes on and `config`, of its kind, gives no others; none without a run."""
        if not self.config.exists():
            return {}
        held = self.load_config()
        if type(held) is not type(config):
            raise ConfigError(f"{self.path} holds a run of kind {held.kind}, which another command goes on with")
        return {name: value for name, value in vars(held).items() if name not in ("resume", "run_dir", "kind")}

    def _find_plugin(self, plugin: str) -> str:
        """Find a plugin from here: `config.json` names it relative to the run folder, early runs to their own one."""
        from_run = os.path.normpath(self.path / plugin)
        is_relative = plugin.endswith(".py") and (Path(from_run).is_file() or plugin.startswith(".."))
        return from_run if is_relative else plugin

    def _write_config(self, config: TrainingOptions) -> None:
        saved = as_dict(config)
        saved["plugins"] = [
            os.path.relpath(follow_links(plugin), follow_links(self.path)) if plugin.endswith(".py") else plugin
            for plugin in saved.get("plugins", [])
        ]
        write_whole(self.config, json.dumps(saved, indent=2) + "\n")

    def check_plugins(self) -> None:
        """Warn if a plugin has changed since the run began, as its results may differ from those of the run."""
        begun = read_json(self.plugins, "list of plugins") if self.plugins.exists() else {}
        if not isinstance(begun, dict):
            raise DataError(f"{self.plugins} must hold names of plugins with a digest each, got {str(begun)[:100]!r}")
        for name, digest in list_loaded_plugins().items():
            if begun.get(name, digest) != digest:
                logger.warning("%s: the plugin %s has changed since this run began", self.path, name)

    def refuse_other(self, config: TrainingOptions, advice: str, may_differ: Set[str] = NOT_COMPARED) -> None:
        """Raise `ConfigError` if the folder holds a run of another configuration."""
        held = self.read_config()
        if not isinstance(held, dict):
            raise ConfigError(f"{self.config} must hold names of options with a value each, got {str(held)[:100]!r}")
        differing = [
            f"{key}: {there!r} there, {now!r} now"
            for key, (there, now) in find_differing_options(held, config).items()
            if key not in may_differ
        ]
        if differing:
            raise ConfigError(f"{self.path} holds a run with another configuration ({'; '.join(differing)}): {advice}")

    def claim(self, config: TrainingOptions, resume: bool | Literal["auto"]) -> None:
        """Create the folder for a new run of `config`, or check that its run of `config` can be resumed.

        A resumed run may get more steps than it had if the learning rate does not depend on their number.
        """
        if not self.config.exists():
            if resume is True:
                raise ConfigError(f"nothing to resume: {self.path} holds no run (--resume auto begins one)")
            if list_loaded_plugins():
                write_whole(self.plugins, json.dumps(list_loaded_plugins(), indent=2) + "\n")
            self._write_config(config)
            return
        advice, may_differ = "choose another --run_dir, or use the configuration of that run", NOT_COMPARED
        if resume and config.schedule in UNENDING:
            grows = 0 < self.load_config().max_steps < config.max_steps
            may_differ = may_differ | ({"max_steps"} if grows else set())
        elif resume:
            advice += f" (max_steps may grow where the schedule is {' or '.join(UNENDING)}, whose rate does not end)"
        self.refuse_other(config, advice, may_differ)
        self.check_plugins()
        if may_differ != NOT_COMPARED:
            self._write_config(config)
        if not resume:
            raise ConfigError(f"{self.path} already holds this run; go on with --resume, or choose another --run_dir")


@contextmanager
def run_folder(path: str | None, config: TrainingOptions, resume: bool | Literal["auto"]) -> Iterator[RunFolder]:
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
