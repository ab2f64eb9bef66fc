"""Options of `train`, which trains a method on episodes or a classifier of the base classes on batches."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision

Count = int | tuple[int, int]
LEAST = {"n_way": 2, "n_shot": 1, "n_query": 1}  # of an episode


def check_counts(config: object, prefix: str = "") -> None:
    """Raise `ConfigError` where ways, shots or queries of the options `prefix`n_way, … can be those of no episode."""
    for name, least in LEAST.items():
        count = getattr(config, prefix + name)
        low, high = (count, count) if isinstance(count, int) else count
        if not least <= low <= high:
            raise ConfigError(f"{prefix}{name} is a number of at least {least} or a range [low, high], got {count}")


@dataclass
class TrainingOptions:
    """Options that training on episodes and on plain batches share."""

    seed: int = 0
    """seed of everything random: initial weights, episodes, augmentation"""
    max_steps: int = 2500
    """optimizer steps (0: no training; the initial weights are measured)"""
    run_dir: str | None = None
    """folder of the run: config, checkpoints, records, TensorBoard (default: a new one in runs/)"""
    resume: bool | Literal["auto"] = False
    """continue the run in run_dir with its options, bit for bit; auto: start it if there is none"""
    allow_seen_classes: bool = False
    """train although validation or test shares classes or images with training; every table then marks the row"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), float16 on GPUs before Ampere,
    else float32; tf32: of GPUs"""
    deterministic: bool = False
    """make runs on the same GPU repeatable bit for bit; steps take longer"""
    compile: bool = False
    """compile the training step with torch.compile, which saves kernel launches of small networks on a GPU"""

    accumulate_steps: int = 1
    """split each step into this many passes, to save memory"""
    augmentation: dict[str, Any] = field(default_factory=dict)
    """limits of the random changes of training images; see fewshot.images.augment.Augmentation"""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """sgd has momentum 0.9"""
    lr: float = 1e-3
    """initial learning rate"""
    weight_decay: float = 0.0
    """L2 penalty (decoupled with adamw)"""
    schedule: Literal["constant", "halve", "step", "cosine"] = "cosine"
    """schedule of lr; halve: every lr_period_steps; step: times 0.1 at lr_milestones; cosine: a half cosine to 0"""
    lr_period_steps: int = 2000
    """period of schedule=halve"""
    lr_milestones: list[float] = field(default_factory=lambda: [0.9])
    """where schedule=step multiplies the learning rate by 0.1, as fractions of max_steps"""
    warmup_steps: int = 0
    """steps in which the learning rate rises linearly from 0"""
    max_gradient_norm: float = 0.0
    """clip the norm of the gradient to this value (0: no clipping)"""
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
    """steps between validations; the best weights so far are kept"""
    patience: int = 0
    """stop after this many validations without improvement (0: never)"""
    stop_at_accuracy: float = 0.0
    """stop when the mean validation accuracy reaches this fraction (0: never)"""
    checkpoint_every_steps: int = 250
    """steps between the checkpoints that --resume continues from"""
    log_every_steps: int = 10
    """steps between two points of the TensorBoard curves, each the mean over these steps"""
    profile_step: int = 0
    """profile this optimizer step: a trace in the run folder, a table in TensorBoard (0: none)"""

    def __post_init__(self) -> None:
        if self.resume and not self.run_dir:
            raise ConfigError("resume continues the run in a folder: name it with run_dir (--run_dir)")
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{option.name} must be finite, got {value}")
        check_counts(self, "val_")
        positive = (
            "accumulate_steps", "lr", "lr_period_steps", "val_episodes", "val_every_steps", "checkpoint_every_steps",
            "log_every_steps",
        )  # fmt: skip
        for name in positive:
            self._check_positive(name)
        for name in (
            "max_steps",
            "weight_decay",
            "warmup_steps",
            "max_gradient_norm",
            "average_decay",
            "patience",
            "profile_step",
        ):
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
class TrainConfig(TrainingOptions):
    """Options of `train` for a method that is trained on episodes."""

    train_n_way: Count = 20
    """classes of a training episode, a number or a range [low, high]"""
    train_n_shot: Count = 1
    """support images of each class"""
    train_n_query: Count = 5
    """query images of each class"""
    train_disjoint_groups: bool = False
    """no group (photograph, writer, specimen) has images in both support and query of a training episode"""
    episodes_per_step: int = 1
    """episodes in one optimizer step, over all processes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "train_")
        self._check_can_be_split("episodes_per_step")


@dataclass
class PretrainConfig(TrainingOptions):
    """Options of `train` for a classifier of the base classes that is trained on plain batches."""

    batch_size: int = 64
    """images in one optimizer step, over all processes"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_can_be_split("batch_size")
        n_at_once = self.batch_size // self.accumulate_steps
        if n_at_once < 2:
            passes = f" in accumulate_steps={self.accumulate_steps} passes" if self.accumulate_steps > 1 else ""
            raise ConfigError(
                f"batch_size={self.batch_size}{passes} has {n_at_once} image at a time: batch normalisation needs "
                "two or more to compare"
            )
