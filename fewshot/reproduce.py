"""One table of all methods: run the recipes of a data set that have not run yet, then compare their records."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot import cli
from fewshot.checkpoint import load_checkpoint
from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.errors import ConfigError, DataError
from fewshot.experiment import AnyConfig, test_cells
from fewshot.interruption import Interruption
from fewshot.records import Records
from fewshot.registry import unknown_name
from fewshot.report import Row, percent
from fewshot.run_folder import RunFolder

REFERENCE = "protonet"  # the recipe that the others are compared with; its run also gives the floor rows
SAME = ("dataset", "dataset_options", "test_n_way", "test_n_shot", "test_n_query", "test_episodes", "test_seed")
STAGE_ONE = "pretrain"  # how the names of its recipes start
LOG_LINES = 10  # of a failed run are shown
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Run:
    """A recipe and the folder of its run. `stage_one`: the run that this one starts from, if any."""

    name: str
    folder: RunFolder
    arguments: tuple[str, ...]
    config: AnyConfig
    stage_one: "Run | None" = None

    @property
    def is_pretrain(self) -> bool:
        """Whether it is stage 1, a run of scripts/pretrain.py."""
        return isinstance(self.config, PretrainExperimentConfig)

    @property
    def own_row(self) -> str:
        """What its records are called, beside those that the script compares it with."""
        trained = self.config.max_steps or self.stage_one
        return "classifier-baseline" if self.is_pretrain else "trained" if trained else "untrained"

    def records_file(self, row: str, cell: str, test_set: str = "") -> Path:
        """Where the script stores a row's records of a cell."""
        return self.folder.records("-".join(filter(None, [test_set, row, cell])).replace(" ", "-"))

    def records(self, row: str, test_set: str = "") -> list[Records]:
        """A row's records of each cell; `DataError` where they are cut short, `OSError` where there are none."""
        cells = [Records({"spec": vars(spec)}, []).cell for spec in test_cells(self.config)]
        return [Records.read(self.records_file(row, cell, test_set)) for cell in cells]

    @property
    def complete(self) -> bool:
        """Whether the run has ended: the records of its own row and of the untrained network are there, whole."""
        rows = {self.own_row} if self.is_pretrain else {self.own_row, "untrained"}
        try:
            return all(self.records(row, test_set) for test_set in ("", *self.config.test_also) for row in rows)
        except (DataError, FileNotFoundError):
            return False

    def check(self) -> None:
        """Raise `ConfigError` where the folder holds a run of another configuration, or one whose stage 1 is gone."""
        if not self.folder.config.exists():
            return
        advice = f"delete {self.folder.path}, or choose another --out"
        self.folder.refuse_other(self.config, f"the recipe {self.name} was changed after it ran; {advice}")
        start = self.stage_one and self.stage_one.folder
        if start and not start.config.exists():
            raise ConfigError(f"{self.name} has run, but {start.path} that it started from is gone: {advice}")

    @property
    def stages(self) -> list[tuple[str, float]]:
        """What each stage was trained on, and its minutes of training and validation; stage 1 first."""
        step, _, _, seconds = load_checkpoint(self.folder.last)["progress"]
        unit, option = ("images", "batch_size") if self.is_pretrain else ("episodes", "episodes_per_step")
        own = f"{step * getattr(self.config, option):,} {unit}" if step else ""
        return [*(self.stage_one.stages if self.stage_one else []), (own, seconds / 60)]


def find_runs(recipes: Path, out: Path, seed: int = 0, names: Sequence[str] = ()) -> list[Run]:
    """The runs of the recipes in the folder `recipes` (all, or `names` and those they start from), in order of running.

    Raises `ConfigError` for a recipe that is not valid, and where recipes measure different episodes.
    """
    known = {path.stem: path for path in sorted(recipes.glob("*.yaml"))}
    if not known:
        raise ConfigError(f"there is no recipe (*.yaml) in {recipes}")
    runs: dict[str, Run] = {}

    def add(name: str, *needed_by: str) -> Run:
        if name in needed_by:
            raise ConfigError(f"pretrained_run goes in a circle: {' -> '.join((*needed_by, name))}")
        if name not in known:
            raise unknown_name(f"recipe of {recipes}", name, known)
        if name not in runs:
            run = _read(known[name], out / recipes.name / f"{name}-seed{seed}", seed)
            pretrained = getattr(run.config, "pretrained_run", None)
            runs[name] = _starting_from(run, add(Path(pretrained).name, *needed_by, name)) if pretrained else run
        return runs[name]

    for name in sorted(names or known, key=lambda name: (not name.startswith(STAGE_ONE), name)):
        add(name)
    _refuse_different_episodes(list(runs.values()))
    return list(runs.values())


def _read(recipe: Path, folder: Path, seed: int) -> Run:
    arguments = ("--config", str(recipe), "--run_dir", str(folder), "--seed", str(seed))
    kind = PretrainExperimentConfig if recipe.stem.startswith(STAGE_ONE) else ExperimentConfig
    try:
        return Run(recipe.stem, RunFolder(folder), arguments, cli.parse(kind, "", arguments))
    except SystemExit:  # the reason stands on stderr
        raise ConfigError(f"{recipe} is no valid recipe") from None


def _starting_from(run: Run, stage_one: Run) -> Run:
    path = str(stage_one.folder.path)
    config = replace(run.config, pretrained_run=path)
    return replace(run, config=config, arguments=(*run.arguments, "--pretrained_run", path), stage_one=stage_one)


def _refuse_different_episodes(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        for option in SAME:
            values = [getattr(r.config, option) for r in (runs[0], run)]
            if values[0] != values[1]:
                raise ConfigError(
                    f"{runs[0].name} and {run.name} are measured on different episodes ({option}: {values[0]} and "
                    f"{values[1]}), so no table can hold both: name recipes that agree with --recipes"
                )


def run_all(runs: Sequence[Run], scripts: Path) -> list[Run]:
    """Run what is not complete, one after the other, going on with what was interrupted; the runs that failed.

    Raises `ConfigError`, before anything runs, for a folder that holds another run.
    """
    for run in runs:
        run.check()
    failed = []
    for run in runs:
        had_run = run.complete
        problem = "" if had_run else _execute(run, scripts)
        if problem:
            failed.append(run)
            print(f"{run.name}: FAILED, {problem}", flush=True)
        else:
            accuracies = "  ".join(f"{r.cell} {percent(r.estimate)}" for r in run.records(run.own_row))
            print(f"{run.name}: {run.stages[-1][1]:.1f} min  {accuracies}{'  (had run)' * had_run}", flush=True)
    return failed


def _execute(run: Run, scripts: Path) -> str:
    """What went wrong, with the last lines of the log; empty where nothing did."""
    script = "pretrain.py" if run.is_pretrain else "train_episodic.py"
    resume = ["--resume"] if run.folder.config.exists() else []
    command = [sys.executable, str(scripts / script), *run.arguments, *resume]
    run.folder.path.mkdir(parents=True, exist_ok=True)
    path = run.folder.path / "log.txt"
    print(f"{run.name}: running, output in {path}", flush=True)
    with (
        path.open("a") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as child,
        Interruption() as interruption,
    ):
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            if interruption.requested():
                child.terminate()  # it saves its state; a Ctrl-C of the terminal has told it already
                child.wait()
                interruption.leave(f"stopped in {run.name}; the same command goes on from there")
    if child.returncode == 0 and run.complete:
        return ""
    lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n    ".join([f"exit status {child.returncode}; the end of {path}:", *lines])


def rows(runs: Sequence[Run]) -> list[Row]:
    """The rows of the table, from what complete runs stored; the floor rows from the run of the reference."""
    found = []
    for run in runs:
        seen, minutes = zip(*run.stages, strict=True)
        name = f"{run.name} (Classifier-Baseline)" if run.is_pretrain else run.name
        own = Row(name, run.records(run.own_row), " + ".join(filter(None, seen)) or "nothing", minutes)
        found.append(own)
        for row, label in (("untrained", f"untrained {REFERENCE}"), ("raw pixels", "raw pixels")):
            if run.name == REFERENCE and row != run.own_row and run.records_file(row, own.records[0].cell).exists():
                found.append(Row(label, run.records(row)))
    return found
