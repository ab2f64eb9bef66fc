"""Configuration: dataclasses with one field per option, read by the command line and by YAML recipes alike."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from fewshot.errors import ConfigError

Count = int | tuple[int, int]
Setup = TypeVar("Setup", bound="SetupConfig")


@dataclass
class FitConfig:
    """What training on episodes and on plain batches have in common."""

    seed: int = 0
    """decides initial weights, episodes, augmentation: everything that is random"""
    max_steps: int = 2500
    """optimizer steps (0: no training, the method is measured as it starts)"""
    run_dir: str | None = None
    """folder of the run: config, checkpoints, records, TensorBoard (default: a new one in runs/)"""
    resume: bool = False
    """go on with the run in run_dir, bit for bit"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware has it (GPUs, CPUs with AMX), else float32"""

    accumulate_steps: int = 1
    """split each step into this many passes, to save memory"""
    augmentation: dict[str, Any] = field(default_factory=dict)
    """limits of random changes of training images, see fewshot.augment.Augmentation"""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """sgd has momentum 0.9"""
    lr: float = 1e-3
    """learning rate at the start"""
    weight_decay: float = 0.0
    """L2 penalty (decoupled with adamw)"""
    schedule: Literal["constant", "halve", "step", "cosine"] = "cosine"
    """of the learning rate: halve it every lr_period_steps, a tenth at each of lr_milestones, or a half cosine to 0"""
    lr_period_steps: int = 2000
    """period of schedule=halve"""
    lr_milestones: list[float] = field(default_factory=lambda: [0.9])
    """where schedule=step multiplies the learning rate by 0.1, as fractions of max_steps"""
    warmup_steps: int = 0
    """linear rise of the learning rate from 0"""
    max_gradient_norm: float = 0.0
    """clip the gradient's norm to this (0: no clipping)"""
    average_decay: float = 0.0
    """evaluate and keep an exponential moving average of the weights with this decay (0: the weights themselves)"""

    val_n_way: Count = 5
    """classes of a validation episode"""
    val_n_shot: Count = 1
    """support images of each class"""
    val_n_query: Count = 15
    """query images of each class"""
    val_episodes: int = 400
    """validation episodes, the same each time"""
    val_every_steps: int = 250
    """validate, and keep the best weights so far, every so many steps"""
    patience: int = 0
    """stop after this many validations without a better one (0: never)"""
    stop_at_accuracy: float = 0.0
    """stop when the mean of a validation reaches this, a fraction (0: never)"""
    checkpoint_every_steps: int = 250
    """write the checkpoint that --resume goes on from every so many steps"""
    log_every_steps: int = 10
    """steps between two points of the TensorBoard curves"""

    def __post_init__(self) -> None:
        positive = (
            "accumulate_steps", "lr", "lr_period_steps", "val_episodes", "val_every_steps", "checkpoint_every_steps",
            "log_every_steps",
        )  # fmt: skip
        for name in positive:
            self._check_positive(name)
        for name in ("max_steps", "weight_decay", "warmup_steps", "max_gradient_norm", "average_decay", "patience"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.stop_at_accuracy <= 1:
            raise ConfigError(f"stop_at_accuracy is a fraction between 0 and 1, got {self.stop_at_accuracy}")
        if self.average_decay >= 1:
            raise ConfigError(f"average_decay must be below 1, got {self.average_decay}")
        if not all(0 < milestone < 1 for milestone in self.lr_milestones):
            raise ConfigError(f"lr_milestones are fractions of max_steps between 0 and 1, got {self.lr_milestones}")

    def _check_positive(self, name: str) -> None:
        if not getattr(self, name) > 0:
            raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")

    def _check_can_be_split(self, name: str) -> None:
        self._check_positive(name)
        if getattr(self, name) % self.accumulate_steps:
            raise ConfigError(
                f"{name}={getattr(self, name)} cannot be split into accumulate_steps={self.accumulate_steps}"
            )


@dataclass
class TrainConfig(FitConfig):
    """How a method is trained on episodes: the argument of `fit`."""

    train_n_way: Count = 20
    """classes of a training episode, a number or a range [low, high]"""
    train_n_shot: Count = 1
    """support images of each class"""
    train_n_query: Count = 5
    """query images of each class"""
    train_disjoint_groups: bool = False
    """no photograph, writer or specimen on both sides of a training episode"""
    episodes_per_step: int = 1
    """episodes in one optimizer step, over all processes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_can_be_split("episodes_per_step")


@dataclass
class PretrainConfig(FitConfig):
    """How a classifier of the base classes is trained on plain batches: the argument of `fit`."""

    batch_size: int = 64
    """labelled images in one optimizer step, over all processes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_can_be_split("batch_size")


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


@dataclass
class ExperimentConfig(TrainConfig, SetupConfig):
    """Which method is trained on episodes of what, and which test cells are measured at the end."""

    method: str = "protonet"
    """name of a method"""
    method_options: dict[str, Any] = field(default_factory=dict)
    """options of the method"""
    test_variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """further rows of the test table, of the same weights: a name and the method_options that differ"""
    pretrained_run: str | None = None
    """folder of a run, such as one of scripts/pretrain.py, whose backbone this one starts from"""

    @property
    def trained_name(self) -> str:
        """What is trained, in a word."""
        return self.method


@dataclass
class PretrainExperimentConfig(PretrainConfig, SetupConfig):
    """Which classifier is trained on the base classes of what, and which test cells are measured at the end."""

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


def as_dict(config: FitConfig) -> dict[str, Any]:
    """The configuration as plain values, lists instead of tuples, as it is saved with the run."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(asdict(config))


def differing_options(held: dict[str, Any], config: FitConfig) -> dict[str, tuple[Any, Any]]:
    """Options in which a saved configuration differs from `config`: what it holds, and what `config` says.

    Options younger than the saved configuration count as held at their defaults.
    """
    now = as_dict(config)
    held = {**as_dict(type(config)()), **held}
    return {key: (held.get(key), now.get(key)) for key in sorted(held | now) if held.get(key) != now.get(key)}


@dataclass(kw_only=True)
class MeasureConfig:
    """What a run is measured on."""

    dataset: str | None = None
    """name of a data set (default: the run's own, with its options)"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set, on top of the run's own where it is the run's"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    split: str = "test"
    """split of the data set"""
    n_way: Count = 5
    """classes of an episode, a number or a range [low, high]"""
    n_shot: Count = 1
    """support images of each class, a number or a range [low, high]"""
    n_query: Count = 15
    """query images of each class, a number or a range [low, high]"""
    disjoint_groups: bool = False
    """no photograph, writer or specimen on both sides of an episode"""
    n_episodes: int = 1000
    """episodes"""
    seed: int = 0
    """seed of the episodes: the same seed, the same episodes for every run"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware has it (GPUs, CPUs with AMX), else float32"""

    def applied_to(self, run: Setup) -> Setup:
        """The configuration of a run with this data set: its own options hold where the data set is its own."""
        options = run.dataset_options if self.dataset in (None, run.dataset) else {}
        return replace(
            run,
            data_root=self.data_root,
            dataset=self.dataset or run.dataset,
            dataset_options={**options, **self.dataset_options},
        )


@dataclass
class EvaluateConfig(MeasureConfig):
    """Which run is measured on which episodes."""

    run_dir: str
    """folder of a finished run"""
    json: str | None = None
    """file for the records (default: in the run folder)"""


@dataclass
class CompareConfig(MeasureConfig):
    """Which two runs are measured on the same episodes."""

    run_a: str
    """folder of a finished run"""
    run_b: str
    """folder of the other run"""
    out: str | None = None
    """folder for tables and figure (default: compare/A-vs-B in the folder of the first run)"""

    def __post_init__(self) -> None:
        if self.n_episodes < 2:
            raise ConfigError(f"a comparison needs at least 2 episodes, got n_episodes={self.n_episodes}")
