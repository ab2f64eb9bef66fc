"""Options of an experiment: the data, the network, the method, and the test cells that are measured at the end."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fewshot.config.training import PretrainConfig, TrainConfig, TrainingOptions
from fewshot.errors import ConfigError

EPISODIC, PRETRAIN = "episodic", "pretrain"  # kinds of a configuration
OF_EPISODES = ("n_query", "disjoint_groups")  # what an entry of test_variants says beside options of the method


@dataclass
class SetupConfig:
    """Data, backbone and test cells, which both kinds of experiment share."""

    dataset: str = "glyphs"
    """name of a data set"""
    dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of the data set, for all splits"""
    data_root: str | None = None
    """folder that holds the data sets (default: FEWSHOT_DATA, else data/raw)"""
    train_split: str = "train"
    """split to train on"""
    held_out_images: int = 0
    """images of each training class, in whole groups, that are not trained on; see test_base_images"""
    skip_bad_images: bool = False
    """warn of unreadable images and leave them out"""
    backbone: str = "conv4"
    """name of a backbone; timm/NAME and torchvision/NAME are any model of these libraries"""
    backbone_options: dict[str, Any] = field(default_factory=dict)
    """options of the backbone, such as pretrained or weights"""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules of your own that register methods, data sets or backbones"""

    test_dataset: str | None = None
    """data set of the test cells (default: the training data set)"""
    test_dataset_options: dict[str, Any] = field(default_factory=dict)
    """options of test_dataset"""
    test_disjoint_groups: bool = False
    """no group (photograph, writer, specimen) has images in both support and query of a test episode"""
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
    test_varied: dict[str, Any] = field(default_factory=dict)
    """a further test cell of varying episodes: n_way and n_shot as ranges [low, high], n_query of each class"""
    test_floor: bool = True
    """also measure the references: initial weights, raw pixels, and the weights that training started from"""
    test_also: dict[str, dict[str, Any]] = field(default_factory=dict)
    """further test sets: a name, and the data set options in which it differs"""
    test_base_images: int = 0
    """draw so many of held_out_images for each test episode, and ask the network for their training classes before and
    after the episode has adapted it: what adapting costs (0: do not ask)"""
    train_only: bool = False
    """end after training, without the test split; the same command with --resume, and without this, measures it"""

    def _check_test_cells(self) -> None:
        for name in ("held_out_images", "test_base_images"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.test_base_images and not self.held_out_images:
            raise ConfigError("test_base_images are drawn from images that are not trained on: give held_out_images")
        for name in ("test_n_way", "test_n_shot"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must name at least one number, got []")
        if "" in self.test_also:
            raise ConfigError("test_also: a further test set needs a name, got ''")
        for name, least in (("test_n_way", 2), ("test_n_shot", 1), ("test_n_query", 1), ("test_episodes", 1)):
            value = getattr(self, name)
            if min(value if isinstance(value, list) else [value]) < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")


@dataclass
class ExperimentConfig(TrainConfig, SetupConfig):
    """Train a method on episodes, then measure it on test cells."""

    kind: Literal["episodic"] = "episodic"
    """kind of the configuration: a method trained on episodes"""
    method: str = "protonet"
    """name of a method"""
    method_options: dict[str, Any] = field(default_factory=dict)
    """options of the method"""
    test_variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """further rows of the test table with the same weights: a name, the method_options that differ, and if they differ
    n_query (a number, or "shots": as many queries of each class as support images) and disjoint_groups"""
    freeze_backbone: bool = False
    """train only the method's own weights; the backbone's weights and running statistics are not updated, and if images
    are not augmented, their features are computed once"""
    pretrained_run: str | None = None
    """folder of a run, such as one of scripts/pretrain.py, whose backbone weights training starts from"""
    pretrained_method: bool = False
    """start from all weights of pretrained_run, a run of the same method, instead of its backbone's alone"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_test_cells()
        if self.pretrained_method and not self.pretrained_run:
            raise ConfigError("pretrained_method takes the weights of pretrained_run, and none is given")

    @property
    def trained_name(self) -> str:
        """Short name of what is trained."""
        return self.method


@dataclass
class PretrainExperimentConfig(PretrainConfig, SetupConfig):
    """Train a classifier of the base classes, then measure its features on test cells."""

    kind: Literal["pretrain"] = "pretrain"
    """kind of the configuration: a classifier trained on plain batches"""
    classifier: Literal["linear", "cosine"] = "linear"
    """head over the base classes: linear with bias, or cosine with a learnable norm of each class"""
    classifier_scale: float | None = None
    """factor of the cosine head (default: 2 for up to 200 classes, else 10)"""
    label_smoothing: float = 0.0
    """fraction of the target probability that is spread evenly over all base classes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing lies in [0, 1), got {self.label_smoothing}")
        self._check_test_cells()

    @property
    def trained_name(self) -> str:
        """Short name of what is trained."""
        return f"classifier-{self.classifier}"


def as_dict(config: TrainingOptions) -> dict[str, Any]:
    """Convert a configuration to plain values, with lists instead of tuples, as it is saved with the run."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(asdict(config))


def find_differing_options(held: dict[str, Any], config: TrainingOptions) -> dict[str, tuple[Any, Any]]:
    """Compare a saved configuration with `config`: {option: (saved value, value in `config`)} where they differ.

    An option that is missing because the configuration was saved before it existed counts as its default.
    """
    now = as_dict(config)
    held = {**as_dict(type(config)()), **held}
    return {key: (held.get(key), now.get(key)) for key in sorted(held | now) if held.get(key) != now.get(key)}


def select_method_options(variant: dict[str, Any]) -> dict[str, Any]:
    """What an entry of `test_variants` says of the method."""
    return {name: value for name, value in variant.items() if name not in OF_EPISODES}


def have_variants_changed(held: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a row that is in both `held` and `now`, two values of `test_variants`, has changed its options."""
    return any(held[name] != now[name] for name in held.keys() & now.keys())
