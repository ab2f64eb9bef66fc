"""Options of the commands reproduce, figures, guard, benchmark, data, embed and list."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision

BenchmarkSection = Literal[
    "data", "evaluation", "frozen", "heads", "maml", "memory", "precision", "depthwise", "process", "photographs",
    "export", "tensorboard", "end-to-end",
]  # fmt: skip
PUBLISHED_REPORT = "docs/results/DATASET.md"


@dataclass(kw_only=True)
class LaunchConfig:
    """Choose where runs are started, and how many at a time."""

    launcher: Literal["local", "slurm"] = "local"
    """local: processes of this machine; slurm: jobs of Slurm (needs the extra [slurm])"""
    n_jobs: int | None = None
    """runs at a time, each on its own share of the CPU cores (default: 1; with slurm 100 jobs in the queue)"""
    slurm: dict[str, Any] = field(default_factory=dict)
    """options of the jobs, as submitit names them: timeout_min, cpus_per_task, gpus_per_node, slurm_partition, …; with
    cluster: local they run on this machine"""
    budget: float | None = None
    """minutes after which to stop; the next call continues. 0: only make the tables"""

    def __post_init__(self) -> None:
        if self.n_jobs is not None and self.n_jobs < 1:
            raise ConfigError(f"n_jobs must be at least 1, got {self.n_jobs}")
        if self.budget is not None and not self.budget >= 0:
            raise ConfigError(f"budget is a number of minutes, 0 or more, got {self.budget}")


@dataclass(kw_only=True)
class ReproduceConfig(LaunchConfig):
    """Run the recipes of a data set and print the tables of their results."""

    dataset: str = "glyphs"
    """a folder of recipes"""
    methods: list[str] = field(default_factory=list)
    """recipes to run, with those whose weights they start from (default: all)"""
    cells: list[str] = field(default_factory=list)
    """run only the recipes that measure one of these test cells, such as 5w1s 20w5s (default: all)"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """seeds of training"""
    train_only: bool = False
    """train, and read no test split: the same command without it then measures, on another machine if you like"""
    small_copies: str | None = None
    """folder for a copy of each run in half as many bytes a weight and without the optimizer's state, for a slow way
    from one machine to another; a run that goes on from its copy begins with a new optimizer, and its result says so"""
    out: str = "runs/reproduce"
    """folder of the runs"""
    results: str | None = None
    """folder of what is kept of each run (default: OUT/results; with --publish: results)"""
    report: str | None = None
    """file whose section of this data set the tables replace (default: they are printed only)"""
    publish: bool = False
    """keep the results in results/, and make docs/results/DATASET.md, the heads of the recipes and the tables of
    README.md and RESULTS.md anew, of all recipes and seeds: these files are tracked by git, and change only so"""
    recipes: str | None = None
    """folder that holds the folders of recipes (default: scripts/recipes of the repository)"""


@dataclass(kw_only=True)
class SweepConfig(LaunchConfig):
    """Train with every combination of some options and several seeds."""

    config: str | None = None
    """recipe, the options that all runs share (default: those of fewshot train)"""
    row: str | None = None
    """row of the recipe, in the place of its training"""
    grid: list[str] = field(default_factory=list)
    """options and their values, such as lr=1e-3,3e-4 method_options.inner_steps=1,5: every combination is run"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """seeds of training, of each combination"""
    out: str | None = None
    """folder of the runs (default: runs/sweep-RECIPE)"""
    summary: str | None = None
    """file for the table at the end: .md, .csv or .tex (default: it is printed only)"""


@dataclass(kw_only=True)
class SummarizeConfig:
    """Put finished runs into one table."""

    runs: list[str]
    """folders of runs, folders that hold such folders, or files of results/"""
    against: str | None = None
    """line that the others are compared with: a run of it, or its name in the table (default: the first line)"""
    rows: list[str] = field(default_factory=list)
    """further rows of the runs' test tables, such as untrained (default: their own and their variants)"""
    cells: list[str] = field(default_factory=list)
    """columns, such as 5w1s 20w5s (default: all)"""
    format: Literal["markdown", "csv", "latex"] = "markdown"
    """what is printed"""
    out: str | None = None
    """file to write instead: .md, .csv or .tex, whose ending is its format"""


@dataclass(kw_only=True)
class FiguresConfig:
    """Measure finished runs against shots, ways and minutes, and draw the figures."""

    dataset: str = "glyphs"
    """a folder of recipes"""
    methods: list[str] = field(default_factory=list)
    """recipes to measure (default: those with the name of their method)"""
    episodes: int = 600
    """episodes of each point"""
    slow_episodes: int = 300
    """episodes of each point for methods that run the network in every episode"""
    out: str = "runs/reproduce"
    """folder of the runs"""
    results: str = "results"
    """folder of the results and figures"""
    recipes: str | None = None
    """folder that holds the folders of recipes (default: scripts/recipes of the repository)"""


@dataclass(kw_only=True)
class CheckLearningConfig:
    """Train recipes of glyphs for seconds and compare their accuracies with the bounds of the regression guard."""

    recipes: list[str] = field(default_factory=list)
    """recipes to train, with those whose weights they start from (default: all recipes of glyphs)"""
    seed: int = 5
    """seed of training when comparing (default: 5, which no bound was made from)"""
    calibrate: bool = False
    """write new bounds instead of comparing with them"""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """seeds of training when calibrating"""


@dataclass(kw_only=True)
class BenchmarkConfig:
    """Measure speed and memory."""

    suite: Literal["cpu", "gpu"] = "cpu"
    """cpu: sections of measurements beside other libraries; gpu: what the code does and costs on this machine's GPU"""
    only: list[BenchmarkSection] = field(default_factory=lambda: list(get_args(BenchmarkSection)))
    """measure only these sections of the suite cpu"""
    dataset: str = "omniglot"
    """name of a data set, for drawing, training and evaluation"""
    n_episodes: int = 10000
    """episodes on which our evaluator is timed"""
    n_easyfsl_episodes: int = 100
    """episodes on which easyfsl's loop is timed"""
    target: float = 0.975
    """5-way 1-shot validation accuracy at which the section end-to-end stops training"""
    json: str = "benchmark.json"
    """file for the numbers of the suite cpu"""
    parts: list[str] = field(default_factory=list)
    """these parts of the suite gpu only (default: all)"""
    out: str = "gpu"
    """folder for what the suite gpu measures: gpu.json, a profile, the tests' output"""
    dry: bool = False
    """run the suite gpu on toy sizes on the CPU, which tries it"""


@dataclass(kw_only=True)
class DataConfig:
    """Check data sets on disk and fetch what is missing."""

    dataset: list[str] = field(default_factory=list)
    """names of data sets (default: all)"""
    root: str | None = None
    """folder that holds them (default: FEWSHOT_DATA, else data/raw)"""
    verify_only: bool = False
    """check only; fetch nothing"""
    cache: bool = False
    """list the pixels and features of data sets that are kept in FEWSHOT_CACHE (else ~/.cache/fewshot)"""
    clear_cache: float | None = None
    """remove from there what was not used for so many days (0: everything); it is made again when it is needed"""

    def __post_init__(self) -> None:
        if self.clear_cache is not None and self.clear_cache < 0:
            raise ConfigError(f"clear_cache is a number of days, 0 or more, got {self.clear_cache}")


@dataclass(kw_only=True)
class EmbedConfig:
    """Compute the features of a data set and write them to a file."""

    out: str
    """.npz file to write: features, labels, class_names and groups"""
    run_dir: str | None = None
    """folder of a finished run whose network is used (and its data set, unless another is named)"""
    backbone: str = "efficientnet-lite0"
    """name of a backbone, if no run is given"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone, such as pretrained or weights"""
    dataset: str | None = None
    """name of a data set (default: the run's own, with its options; glyphs without a run)"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    split: str = "test"
    """split of the data set"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own that register methods, data sets or backbones"""


@dataclass
class ListConfig:
    """List registered names with one line on each."""

    kind: Literal["methods", "backbones", "datasets"]
    """what to list"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own whose names are listed too"""


@dataclass
class ReviewConfig:
    """What is measured of the advice that a person gets about photographs."""

    only: list[str] = field(default_factory=lambda: ["suspects", "flaws", "suggestions", "regions", "watch"])
    """suspects (planted wrong labels), flaws (made-up dark, bright, blurred and mirrored photographs), suggestions
    (against random labels), regions (hidden cells), watch (streams of photographs that change)"""
    n_repetitions: int = 200
    """folders that are drawn of each data set that has no records yet; 0 only makes the tables anew"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    results: str = "results/advice"
    """folder of the records"""
    report: str | None = "docs/results/trust.md"
    """file whose sections are written (null: none)"""

    def __post_init__(self) -> None:
        known = ("suspects", "flaws", "suggestions", "regions", "watch")
        if not set(self.only) <= set(known):
            raise ConfigError(f"only names some of {', '.join(known)}, got {', '.join(self.only)}")
        if self.n_repetitions < 0 or self.n_repetitions == 1:
            raise ConfigError(f"n_repetitions is 0, or 2 at least for an interval, got {self.n_repetitions}")
