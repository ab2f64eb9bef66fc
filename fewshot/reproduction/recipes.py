"""Recipes as runs: which there are, what they measure, whether they have run, and what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot import cli
from fewshot.config import ExperimentConfig, PretrainExperimentConfig, as_dict
from fewshot.errors import ConfigError, DataError
from fewshot.evaluation.records import Records, cell_name
from fewshot.experiments.build import AnyConfig, test_cells, variants
from fewshot.experiments.starting import starting_row
from fewshot.registry import unknown_name
from fewshot.reproduction.results import Result
from fewshot.reproduction.tables.accuracies import FLOOR_ROWS, REFERENCE, row_name, short
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.training.run_folder import RunFolder

SAME = ("dataset", "test_dataset", "test_disjoint_groups", "test_n_query", "test_episodes", "test_seed")
STAGE_ONE = "pretrain"  # how the names of its recipes start
RUNS = "runs/reproduce"  # where runs lie by default, and what a result says of where they lie


@dataclass(frozen=True)
class Run:
    """A recipe with a seed, and the folder of its run. `stage_one`: the run that this one starts from, if any."""

    name: str
    folder: RunFolder
    arguments: tuple[str, ...]
    config: AnyConfig
    stage_one: "Run | None" = None

    @property
    def title(self) -> str:
        """What it is called while it runs."""
        return f"{self.name}, seed {self.config.seed}"

    @property
    def is_pretrain(self) -> bool:
        """Whether it is stage 1, a run of scripts/pretrain.py."""
        return isinstance(self.config, PretrainExperimentConfig)

    @property
    def script(self) -> str:
        """The script that runs it."""
        return "pretrain.py" if self.is_pretrain else "train_episodic.py"

    @property
    def subcommand(self) -> str:
        """The subcommand of fewshot that runs it."""
        return "pretrain" if self.is_pretrain else "train"

    @property
    def command(self) -> str:
        """The command that makes it, from the folder that holds scripts/ or the folder of recipes."""
        option, recipe, *others = map(self._hide_place, self.arguments)
        inside = Path(recipe).parts[-4:-2] == ("scripts", "recipes")
        program = f"python scripts/{self.script}" if inside else f"fewshot {self.subcommand}"
        return f"{program} {option} {Path(*Path(recipe).parts[-4:])} {' '.join(others)}"

    @property
    def own_row(self) -> str:
        """What its records are called, beside those that the script compares it with."""
        trained = self.config.max_steps or self.stage_one
        return "classifier-baseline" if self.is_pretrain else "trained" if trained else starting_row(self.config)

    @property
    def variants(self) -> list[str]:
        """Further rows of the same weights."""
        return list(variants(self.config))

    @property
    def cells(self) -> list[str]:
        """What its records measure, `5-way 1-shot`."""
        return [cell_name(vars(spec)) for spec in test_cells(self.config)]

    def records_file(self, row: str, cell: str, test_set: str = "") -> Path:
        """Where the script stores a row's records of a cell."""
        return self.folder.records(test_set, row, cell)

    def records(self, row: str, test_set: str = "") -> list[Records]:
        """A row's records of each cell; `DataError` where they are cut short, `OSError` where there are none."""
        return [Records.read(self.records_file(row, cell, test_set)) for cell in self.cells]

    @property
    def complete(self) -> bool:
        """Whether the run has ended: the records of its own row and of the untrained network are there, whole.

        So are those of its variants, measured with the options that these have now.
        """
        rows = {self.own_row, *self.variants}
        if self.config.test_floor and not self.is_pretrain:
            rows.add(starting_row(self.config))
        try:
            return all(
                record.header["config"].get("test_variants", {}).get(row) == variants(self.config).get(row)
                for test_set in ("", *self.config.test_also)
                for row in rows
                for record in self.records(row, test_set)
            )
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

    def result(self) -> Result:
        """What is kept of it: every row that it measured."""
        records = {}
        for test_set in ("", *self.config.test_also):
            for row in dict.fromkeys((self.own_row, *self.variants, "pretrained", "frozen", *FLOOR_ROWS)):
                if self.records_file(row, self.cells[0], test_set).exists():
                    records[": ".join(filter(None, [test_set, row]))] = self._without_config(row, test_set)
        last = load_checkpoint(self.folder.last)
        history = [[step, round(seconds, 1), round(mean, 5), round(half, 5)]
                   for step, seconds, mean, half in last.get("history", [])]  # fmt: skip
        config = {k: self._hide_place(v) if isinstance(v, str) else v for k, v in as_dict(self.config).items()}
        facts = {"config": config, "stages": self.stages, "history": history}
        return Result(self.name, self.config.seed, facts, records)

    def _hide_place(self, text: str) -> str:
        """`text` with the folder of all runs called as it is by default: where this machine has it, no result says."""
        out = self.folder.path.parents[1]
        return text.replace(f"{out}/", f"{RUNS}/") if out.is_absolute() else text

    def _without_config(self, row: str, test_set: str) -> list[Records]:
        """Records whose headers leave out the configuration, which a result holds once, and name the run's command."""
        records = self.records(row, test_set)
        for record in records:
            del record.header["config"]
            record.header["command"] = self.command
        return records


def find_runs(recipes: Path, out: Path, seeds: Sequence[int] = (0,), names: Sequence[str] = ()) -> list[Run]:
    """The runs of the recipes in the folder `recipes`, in order of running: seed after seed, stage 1 first.

    `names`: of recipes, or of rows of the tables (`maml` is maml.yaml and maml_20way.yaml); those that they
    start from come with them. Default: all. Raises `ConfigError` for a recipe that is not valid, and where
    recipes measure different episodes.
    """
    known = {path.stem: path for path in sorted(recipes.glob("*.yaml"))}
    if not known:
        raise ConfigError(f"there is no recipe (*.yaml) in {recipes}")
    for name in names:
        if name not in known:
            raise unknown_name(f"recipe of {recipes}", name, known)
    wanted = [name for name in known if not names or name in names or row_name(name) in names]
    runs = [run for seed in seeds for run in _runs_of_seed(recipes.name, known, wanted, out, seed)]
    _refuse_different_episodes(runs)
    return runs


def measuring(runs: Sequence[Run], cells: Sequence[str]) -> list[Run]:
    """Those of the runs that measure one of `cells` (`5w1s`), and those that they start from.

    Raises `ConfigError` for a cell that none measures.
    """
    measured = {short(cell) for run in runs for cell in run.cells}
    for cell in cells:
        if cell not in measured:
            raise ConfigError(f"no recipe measures {cell}; there are {', '.join(sorted(measured))}")
    wanted = [run for run in runs if not cells or set(map(short, run.cells)) & set(cells)]
    needed = {run.stage_one.folder.path for run in wanted if run.stage_one}
    return [run for run in runs if run in wanted or run.folder.path in needed]


def _runs_of_seed(group: str, known: dict[str, Path], wanted: Sequence[str], out: Path, seed: int) -> list[Run]:
    runs: dict[str, Run] = {}

    def add(name: str, *needed_by: str) -> Run:
        if name in needed_by:
            raise ConfigError(f"pretrained_run goes in a circle: {' -> '.join((*needed_by, name))}")
        if name not in known:
            raise unknown_name(f"recipe of {known[needed_by[-1]].parent}", name, known)
        if name not in runs:
            run = _read(known[name], out / group / f"{name}-seed{seed}", seed)
            pretrained = getattr(run.config, "pretrained_run", None)
            runs[name] = _starting_from(run, add(Path(pretrained).name, *needed_by, name)) if pretrained else run
        return runs[name]

    for name in sorted(wanted, key=lambda name: (not name.startswith(STAGE_ONE), name)):
        add(name)
    return list(runs.values())


def _read(recipe: Path, folder: Path, seed: int) -> Run:
    arguments = ["--config", str(recipe), "--run_dir", str(folder), "--seed", str(seed)]
    if row_name(recipe.stem) != REFERENCE:
        arguments += ["--test_floor", "false"]  # the tables show the reference's floor only
    kind = PretrainExperimentConfig if recipe.stem.startswith(STAGE_ONE) else ExperimentConfig
    try:
        return Run(recipe.stem, RunFolder(folder), tuple(arguments), cli.parse(kind, "", arguments))
    except SystemExit:  # the reason stands on stderr
        raise ConfigError(f"{recipe} is no valid recipe") from None


def _starting_from(run: Run, stage_one: Run) -> Run:
    path = str(stage_one.folder.path)
    config = replace(run.config, pretrained_run=path)
    return replace(run, config=config, arguments=(*run.arguments, "--pretrained_run", path), stage_one=stage_one)


def _refuse_different_episodes(runs: Sequence[Run]) -> None:
    """Raise where two runs measure the same cell on different episodes."""
    first: dict[str, Run] = {}
    for run in runs:
        for cell in map(short, run.cells):
            other = first.setdefault(cell, run)
            for option in SAME:
                values = [getattr(r.config, option) for r in (other, run)]
                if values[0] != values[1]:
                    raise ConfigError(
                        f"{other.name} and {run.name} measure {cell} on different episodes ({option}: {values[0]} and "
                        f"{values[1]}), so no table can hold both: name recipes that agree with --methods"
                    )
