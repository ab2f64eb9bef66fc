"""What the commands around the papers' numbers are asked: recipes, figures, guard, benchmark, data, features."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fewshot.runtime.choices import Precision

BenchmarkSection = Literal[
    "data", "evaluation", "frozen", "heads", "maml", "memory", "precision", "depthwise", "process", "photographs",
    "end-to-end",
]  # fmt: skip
PUBLISHED_REPORT = "docs/results/DATASET.md"


@dataclass(kw_only=True)
class LaunchConfig:
    """Where runs are started, and how many at a time."""

    launcher: Literal["local", "slurm"] = "local"
    """local: processes of this machine; slurm: jobs of Slurm (needs the extra [slurm])"""
    n_jobs: int | None = None
    """runs at a time, each on its own share of the CPU cores (default: 1; with slurm 100 jobs in the queue)"""
    slurm: dict[str, Any] = field(default_factory=dict)
    """options of the jobs, as submitit names them: timeout_min, cpus_per_task, gpus_per_node, slurm_partition, …; with
    cluster: local they run on this machine"""
    budget: float | None = None
    """minutes after which to stop, to go on later; 0: make the tables only"""


@dataclass(kw_only=True)
class ReproduceConfig(LaunchConfig):
    """Which recipes are run, and where their results and tables go."""

    dataset: str = "glyphs"
    """a folder of recipes"""
    methods: list[str] = field(default_factory=list)
    """recipes, and those that they start from (default: all)"""
    cells: list[str] = field(default_factory=list)
    """run what measures one of these, such as 5w1s 20w5s (default: all)"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """seeds of training"""
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
    """Which options of a run are varied, and where its runs go."""

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
    """Which finished runs are put into one table, and how."""

    runs: list[str]
    """folders of runs, folders that hold such folders, or files of results/"""
    against: str | None = None
    """what the others are compared with: one of the runs, or a line as the table names it (default: the first)"""
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
    """Which runs are measured and drawn."""

    dataset: str = "glyphs"
    """a folder of recipes"""
    methods: list[str] = field(default_factory=list)
    """to measure (default: recipes called like their method)"""
    episodes: int = 600
    """episodes of each point"""
    slow_episodes: int = 300
    """episodes of each point where each runs the network"""
    out: str = "runs/reproduce"
    """folder of the runs"""
    results: str = "results"
    """folder of what is kept and drawn"""
    recipes: str | None = None
    """folder that holds the folders of recipes (default: scripts/recipes of the repository)"""


@dataclass(kw_only=True)
class CheckLearningConfig:
    """Which recipes of glyphs are trained for seconds, and whether their bounds are made anew."""

    recipes: list[str] = field(default_factory=list)
    """these, and those they start from (default: all recipes of glyphs)"""
    seed: int = 5
    """seed of training when comparing (default: 5, that of no bound)"""
    calibrate: bool = False
    """write the bounds instead of comparing with them"""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """seeds of training when calibrating"""


@dataclass(kw_only=True)
class BenchmarkConfig:
    """What is measured."""

    only: list[BenchmarkSection] = field(default_factory=lambda: list(get_args(BenchmarkSection)))
    """these sections only"""
    dataset: str = "omniglot"
    """name of a data set, for drawing, training and evaluation"""
    n_episodes: int = 10000
    """episodes that our evaluator is timed on"""
    n_easyfsl_episodes: int = 100
    """episodes that easyfsl's loop is timed on"""
    target: float = 0.975
    """validation accuracy, 5-way 1-shot, that end-to-end trains to"""
    json: str = "benchmark.json"
    """file for the numbers"""


@dataclass(kw_only=True)
class DataConfig:
    """Which data sets are checked and fetched."""

    dataset: list[str] = field(default_factory=list)
    """names of data sets (default: all)"""
    root: str | None = None
    """folder that holds them (default: FEWSHOT_DATA, else data/raw)"""
    verify_only: bool = False
    """only check, fetch nothing"""


@dataclass(kw_only=True)
class EmbedConfig:
    """Which images are embedded by which network."""

    out: str
    """file for the features: an .npz of features, labels, class_names and groups"""
    run_dir: str | None = None
    """folder of a finished run, whose network is taken (with its data set, where none is named)"""
    backbone: str = "efficientnet-lite0"
    """name of a backbone, where no run is given"""
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
    """your own files (or modules): what they register is known then"""


@dataclass
class ListConfig:
    """What is listed."""

    kind: Literal["methods", "backbones", "datasets"]
    """what to list"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules), whose names are listed too"""
