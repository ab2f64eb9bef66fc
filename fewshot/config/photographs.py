"""A folder of photographs: what a classifier is made of, where it goes, what it is asked."""

from dataclasses import dataclass, field
from typing import Any, Literal

from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision


@dataclass(kw_only=True)
class PhotographsConfig:
    """Which photographs, and what classifies them."""

    support: str
    """folder with one folder of photographs a class"""
    groups: str | None = None
    """images of one photograph, specimen or video: a regular expression that finds a file's group in its name, or a
    csv file `file,group`"""
    skip_bad_images: bool = False
    """list unreadable photographs and go on without them"""
    backbone: str = "efficientnet-lite0"
    """name of a backbone; timm/NAME and torchvision/NAME are any model of these libraries"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone"""
    pretrained: bool = True
    """with the backbone's published weights"""
    weights: str | None = None
    """a file of weights in their place (with --pretrained false)"""
    run_dir: str | None = None
    """a finished run, whose backbone (and method) are taken"""
    method: str | None = None
    """name of a method (default: baseline, with its logistic solver)"""
    method_options: dict[str, Any] | None = None
    """options of the method"""
    size_px: int | None = None
    """side that photographs are brought to (default: the backbone's own)"""
    resize: Literal["crop", "pad", "stretch"] = "pad"
    """how: the largest centred square, the whole photograph on white, or without its aspect ratio"""
    rotation_invariant: bool | int = False
    """average turned views: true for 8 of them (24 for method aligned), or how many"""
    find_circle: bool = False
    """find a round object near the middle, such as a coin, and cut it out"""
    views: dict[str, Any] = field(default_factory=dict)
    """further options of the views: zooms, colour and radius as cues beside the features"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    seed: int = 0
    """seed of everything random"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what they register is known then"""

    def options(self) -> dict[str, Any]:
        """What of this is options of the classifier."""
        names = (
            "backbone", "backbone_options", "pretrained", "weights", "run_dir", "method", "method_options", "size_px",
            "resize", "rotation_invariant", "find_circle", "views", "precision", "seed",
        )  # fmt: skip
        options = {name: getattr(self, name) for name in names}
        return options | {"pretrained": self.pretrained and self.run_dir is None}


@dataclass(kw_only=True)
class FitPhotographsConfig(PhotographsConfig):
    """A classifier that is fitted to photographs and written to a file."""

    out: str
    """file for the classifier"""
    false_accept_rate: float | None = None
    """answer "none of these" so that at most about this share of strange photographs is taken for a class"""


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
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): what they register is known then"""
