"""What is trained on which data, and which test cells are measured at the end: what a recipe holds."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fewshot.config.training import PretrainConfig, TrainConfig, TrainingOptions
from fewshot.errors import ConfigError

EPISODIC, PRETRAIN = "episodic", "pretrain"  # kinds of a configuration


@dataclass
class SetupConfig:
    """Data, backbone and test cells: what both kinds of experiment share."""

    dataset: str = "glyphs"
    """name of a data set"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set, for all splits"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    train_split: str = "train"
    """split to train on"""
    skip_bad_images: bool = False
    """list unreadable images and go on without them"""
    backbone: str = "conv4"
    """name of a backbone; timm/NAME and torchvision/NAME are any model of these libraries"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone, such as pretrained or weights"""
    plugins: list[str] = field(default_factory=list)
    """your own files (or modules): the methods, data sets and backbones that they register are known then"""

    test_dataset: str | None = None
    """data set of the test cells (default: the one that is trained on)"""
    test_dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of test_dataset"""
    test_disjoint_groups: bool = False
    """no photograph, writer or specimen on both sides of a test episode"""
    test_n_way: list[int] = field(default_factory=lambda: [5])
    """ways of the test cells"""
    test_n_shot: list[int] = field(default_factory=lambda: [1, 5])
    """shots of the test cells"""
    test_n_query: int = 15
    """query images of each class"""
    test_episodes: int = 1000
    """episodes of each test cell"""
    test_seed: int = 0
    """seed of the test episodes: the same for all methods"""
    test_floor: bool = True
    """also measure what the method is compared with: initial weights, raw pixels, the weights it started from"""
    test_also: dict[str, dict[str, Any]] = field(default_factory=dict)
    """further test sets: a name and the data set options that differ"""
    train_only: bool = False
    """end after training, without the test split; the same command with --resume, and without this, measures it"""


@dataclass
class ExperimentConfig(TrainConfig, SetupConfig):
    """Which method is trained on episodes of what, and which test cells are measured at the end."""

    kind: Literal["episodic"] = "episodic"
    """what this configures: the training of a method on episodes"""
    method: str = "protonet"
    """name of a method"""
    method_options: dict[str, Any] = field(default_factory=dict)
    """options of the method"""
    test_variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """further rows of the test table, of the same weights: a name, the method_options that differ, and n_query where it
    differs (a number, or shots: as many queries of each class as support images)"""
    freeze_backbone: bool = False
    """train only what the method has beside its backbone, whose weights and running statistics stay as they start; an
    image is then looked at once, unless augmentation changes it"""
    pretrained_run: str | None = None
    """folder of a run, such as one of scripts/pretrain.py, whose backbone this one starts from"""

    @property
    def trained_name(self) -> str:
        """What is trained, in a word."""
        return self.method


@dataclass
class PretrainExperimentConfig(PretrainConfig, SetupConfig):
    """Which classifier is trained on the base classes of what, and which test cells are measured at the end."""

    kind: Literal["pretrain"] = "pretrain"
    """what this configures: the training of a classifier on plain batches"""
    classifier: Literal["linear", "cosine"] = "linear"
    """head over the base classes: linear with bias, or cosine with a learnable norm of each class"""
    classifier_scale: float | None = None
    """factor of the cosine head (default: 2 for up to 200 classes, else 10)"""
    label_smoothing: float = 0.0
    """share of the target that is spread over all base classes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing lies in [0, 1), got {self.label_smoothing}")

    @property
    def trained_name(self) -> str:
        """What is trained, in a word."""
        return f"classifier-{self.classifier}"


def as_dict(config: TrainingOptions) -> dict[str, Any]:
    """The configuration as plain values, lists instead of tuples, as it is saved with the run."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(asdict(config))


def find_differing_options(held: dict[str, Any], config: TrainingOptions) -> dict[str, tuple[Any, Any]]:
    """Options in which a saved configuration differs from `config`: what it holds, and what `config` says.

    Options younger than the saved configuration count as held at their defaults.
    """
    now = as_dict(config)
    held = {**as_dict(type(config)()), **held}
    return {key: (held.get(key), now.get(key)) for key in sorted(held | now) if held.get(key) != now.get(key)}


def have_variants_changed(held: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a row of `test_variants` that both have is of other options."""
    return any(held[name] != now[name] for name in held.keys() & now.keys())
