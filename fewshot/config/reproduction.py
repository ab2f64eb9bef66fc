"""What the commands around the papers' numbers are asked: recipes, figures, guard, benchmark, data, features."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fewshot.runtime.choices import Precision

BenchmarkSection = Literal[
    "data", "evaluation", "frozen", "heads", "maml", "memory", "precision", "depthwise", "process", "photographs",
    "end-to-end",
]  # fmt: skip
DEFAULT_REPORT = "docs/results/DATASET.md"


@dataclass(kw_only=True)
class ReproduceConfig:
    """Which recipes are run, and where their results and tables go."""

    dataset: str = "glyphs"
    """a folder of recipes"""
    methods: list[str] = field(default_factory=list)
    """recipes, and those that they start from (default: all)"""
    cells: list[str] = field(default_factory=list)
    """run what measures one of these, such as 5w1s 20w5s (default: all)"""
    seeds: list[int] = field(default_factory=lambda: [0])
    """seeds of training"""
    budget: float | None = None
    """minutes after which to stop, to go on later; 0: make the tables only"""
    out: str = "runs/reproduce"
    """folder of the runs"""
    results: str = "results"
    """folder of what is kept of each run"""
    report: str | None = DEFAULT_REPORT
    """file that holds the tables; null: print only (default: that of the data set, and the tables of README.md and
    RESULTS.md are made anew)"""
    recipes: str | None = None
    """folder that holds the folders of recipes (default: scripts/recipes of the repository)"""


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
