"""A folder of photographs: what a classifier is made of, where it goes, what it is asked."""

from dataclasses import dataclass, field
from typing import Any

from fewshot.config.classifier import AnswerOptions, ClassifierOptions
from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision


@dataclass(kw_only=True)
class PhotographsConfig(ClassifierOptions):
    """Which photographs, and what classifies them."""

    support: str
    """folder with one folder of photographs a class"""
    groups: str | None = None
    """images of one photograph, specimen or video: a regular expression that finds a file's group in its name, or a
    csv file `file,group`"""
    skip_bad_images: bool = False
    """list unreadable photographs and go on without them"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what they register is known then"""

    def __post_init__(self) -> None:
        if self.backbone is None and self.run_dir is None:
            raise ConfigError("photographs need a backbone (or a run_dir): without one a classifier is of features")


@dataclass(kw_only=True)
class FitPhotographsConfig(PhotographsConfig, AnswerOptions):
    """A classifier that is fitted to photographs and written to a file."""

    out: str
    """file for the classifier"""


@dataclass(kw_only=True)
class CheckPhotographsConfig(PhotographsConfig):
    """Photographs that are looked at before a classifier is made of them."""

    html: str | None = None
    """file for a page with pictures"""
    json: str | None = None
    """file for the findings"""
    estimate: bool = True
    """embed the photographs and estimate the accuracy that they allow"""


@dataclass
class PredictPhotographsConfig:
    """Photographs that a fitted classifier is asked about."""

    photos: str
    """a photograph, or a folder of them; folders in it that bear names of classes say what is true"""
    model: str | None = None
    """file of the classifier (needed)"""
    csv: str | None = None
    """file for the answers (default: they are printed)"""
    html: str | None = None
    """file for a page with pictures"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what the classifier takes from them"""

    def __post_init__(self) -> None:
        if self.model is None:
            raise ConfigError("--model names the file of a classifier, as `classify.py fit` writes it")


@dataclass
class ConfidenceConfig:
    """Which classifier is measured on episodes with unknown classes."""

    dataset: str = "world_coins"
    """name of a data set"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    split: str = "test"
    """split of the data set"""
    backbone: str = "efficientnet-lite0"
    """name of a backbone, with its published weights"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone, such as input_px and views"""
    methods: list[str] = field(default_factory=lambda: ["baseline", "protonet", "meta-baseline", "nearest"])
    """methods, each with the estimator's default options where `method_options` gives none"""
    method_options: dict[str, Any] | None = None
    """options of these methods"""
    n_way: int = 5
    """known classes of an episode"""
    n_unknown: int = 5
    """unknown classes of an episode"""
    n_shot: int = 4
    """support images of each known class"""
    n_query: int = 10
    """query images of each class, known or not"""
    n_episodes: int = 600
    """episodes"""
    seed: int = 0
    """seed of the episodes"""
    disjoint_groups: bool = False
    """no photograph, writer or specimen on both sides of an episode"""
    false_accept_rate: float = 0.1
    """share of unknown images that may be accepted"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    classes: list[int] | None = None
    """only the classes of these numbers, from the first to before the last (default: all)"""
    max_images: int | None = None
    """at most so many images of each class, evenly spread (default: all)"""
    coverage: float | None = None
    """share of prediction sets that are to hold the right class (default: no sets)"""
    shift: str | None = None
    """what happened to the queries: blur, darker, brighter, smaller, turned, jpeg or noise"""
    suite: str | None = None
    """a YAML file of measurements, each of these options: those that have no record yet are made, and the tables"""
    only: list[str] = field(default_factory=list)
    """these measurements of the suite"""
    results: str = "results/trust"
    """folder of the suite's records"""
    report: str = "docs/results/trust.md"
    """file that holds the suite's tables"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what they register is known then"""
