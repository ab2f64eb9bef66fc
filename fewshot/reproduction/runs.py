"""`Run`: a recipe's training or one of its rows with a seed; its records, whether it has ended, and its result."""

from dataclasses import dataclass
from pathlib import Path

from fewshot.config import PRETRAIN, AnyConfig, as_dict
from fewshot.config.recipes import SCRIPTS
from fewshot.errors import ConfigError, DataError
from fewshot.evaluation.records import Measured, Records, name_cell
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.cells import list_test_cells, list_variants
from fewshot.experiments.starting import choose_starting_row
from fewshot.reproduction.results import Result, name_row
from fewshot.reproduction.tables.accuracies import FLOOR_ROWS
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.training.run_folder import RunFolder

RUNS = "runs/reproduce"  # default folder of runs, which results name instead of the actual one


def find_own_row(config: AnyConfig) -> RowKind:
    """The kind of row that a run's own records have in its test table."""
    if config.kind == PRETRAIN:
        return RowKind.CLASSIFIER
    trained = config.max_steps or getattr(config, "pretrained_run", None)
    return RowKind.TRAINED if trained else choose_starting_row(config)


@dataclass(frozen=True)
class Run:
    """A recipe's training or one of its rows, with a seed and the folder of its run.

    `row`: the row of the tables with its numbers; `stage_one`: the run that this one starts from, if any; `test_set`:
    the name in the recipe's `test_sets` of what it measures, or "".
    """

    name: str
    row: str
    folder: RunFolder
    arguments: tuple[str, ...]
    config: AnyConfig
    stage_one: "Run | None" = None
    test_set: str = ""

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.name}, seed {self.config.seed}"

    @property
    def group(self) -> str:
        """The folder of its recipe, without those above it."""
        return self.folder.path.parent.name

    @property
    def is_pretrain(self) -> bool:
        """Whether it is stage 1, a run of scripts/pretrain.py."""
        return self.config.kind == PRETRAIN

    @property
    def script(self) -> str:
        """The script that runs it."""
        return SCRIPTS[self.config.kind]

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
    def own_row(self) -> RowKind:
        """The kind of row that its own records have in the test table of the run."""
        return find_own_row(self.config)

    @property
    def variants(self) -> list[str]:
        """The names of further rows with the same weights."""
        return list(list_variants(self.config))

    @property
    def cells(self) -> list[str]:
        """The cells that it measures, `5-way 1-shot`."""
        return [name_cell(vars(spec)) for spec in list_test_cells(self.config)]

    def records_file(self, row: str, cell: str, test_set: str = "") -> Path:
        """The file in which the script stores a row's records of a cell."""
        return self.folder.records(test_set, row, cell)

    def records(self, row: str, test_set: str = "") -> list[Records]:
        """Read a row's records of each cell; raises `DataError` if they are incomplete, `OSError` if there are none."""
        return [Records.read(self.records_file(row, cell, test_set)) for cell in self.cells]

    @property
    def complete(self) -> bool:
        """Whether the run has ended: complete records exist of its own row, its variants and the untrained network.

        The records of a variant must have been measured with its current options.
        """
        rows: set[str] = {self.own_row, *self.variants}
        if self.config.test_floor and not self.is_pretrain:
            rows.add(choose_starting_row(self.config))
        try:
            return all(
                (record.header.config or {}).get("test_variants", {}).get(row) == list_variants(self.config).get(row)
                for test_set in ("", *self.config.test_also)
                for row in rows
                for record in self.records(row, test_set)
            )
        except (DataError, FileNotFoundError):
            return False

    @property
    def trained(self) -> bool:
        """Whether all steps were taken, and the last ones validated."""
        if not self.folder.last.exists():
            return False
        step = load_checkpoint(self.folder.last)["progress"][0]
        stops_early = self.config.patience > 0 or self.config.stop_at_accuracy > 0
        validated = bool(self.history) and self.history[-1][0] == step
        return validated and (step >= self.config.max_steps or stops_early)

    @property
    def history(self) -> list[list[float]]:
        """Step, seconds, mean and half-width of the 95% interval of each validation."""
        return load_checkpoint(self.folder.last).get("history", [])

    def check(self) -> None:
        """Raise `ConfigError` if the folder holds a run of another configuration, or one whose stage 1 was deleted."""
        if not self.folder.config.exists():
            return
        advice = f"delete {self.folder.path}, or choose another --out"
        self.folder.refuse_other(self.config, f"the recipe {self.name} was changed after it ran; {advice}")
        start = self.stage_one and self.stage_one.folder
        if start and not start.config.exists():
            raise ConfigError(f"{self.name} has run, but {start.path} that it started from is gone: {advice}")

    @property
    def stages(self) -> list[tuple[str, float]]:
        """For each stage, how many images or episodes it was trained on, and its minutes; stage 1 first."""
        state = load_checkpoint(self.folder.last)
        step, _, _, seconds = state["progress"]
        unit, option = ("images", "batch_size") if self.is_pretrain else ("episodes", "episodes_per_step")
        own = f"{step * getattr(self.config, option):,} {unit}" if step else ""
        if restarts := state.get("restarts"):
            own += f" (optimizer anew after step {', '.join(f'{restart:,}' for restart in restarts)})"
        return [*(self.stage_one.stages if self.stage_one else []), (own, seconds / 60)]

    def result(self) -> Result:
        """Collect the result: every row that it measured."""
        records: dict[str, list[Measured]] = {}
        for test_set in ("", *self.config.test_also):
            for row in dict.fromkeys((self.own_row, *self.variants, RowKind.PRETRAINED, RowKind.FROZEN, *FLOOR_ROWS)):
                if self.records_file(row, self.cells[0], test_set).exists():
                    records[name_row(test_set, row)] = self._drop_config(row, test_set)
        history = [[step, round(seconds, 1), round(mean, 5), round(half, 5)]
                   for step, seconds, mean, half in self.history]  # fmt: skip
        config = {k: self._hide_place(v) if isinstance(v, str) else v for k, v in as_dict(self.config).items()}
        facts = {"config": config, "stages": self.stages, "history": history}
        return Result(self.name, self.config.seed, facts, records)

    def _hide_place(self, text: str) -> str:
        """Replace the folder of all runs by the default one, since results shall not name paths of this machine."""
        out = self.folder.path.parents[1]
        return text.replace(f"{out}/", f"{RUNS}/") if out.is_absolute() else text

    def _drop_config(self, row: str, test_set: str) -> list[Measured]:
        """Read records without the configuration, which a result holds once, and with the run's command."""
        return [record.add_facts(config=None, command=self.command) for record in self.records(row, test_set)]
