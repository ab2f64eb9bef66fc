"""The options of `finetune`, checked when they are created: what is adapted, and the optimiser settings."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from fewshot.errors import ConfigError
from fewshot.images.augment import Augmentation

Mode = Literal["linear", "cosine", "partial", "batchnorm", "bias", "full", "lora", "adapter", "prompt"]
Classifier = Literal["linear", "cosine"]
HeadStart = Literal["prototypes", "zero"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "constant"]
MODES: tuple[str, ...] = get_args(Mode)

# Default learning rates by mode and by head: our starting points for a search, not from papers.
RATES = {"partial": 1e-4, "batchnorm": 1e-3, "bias": 1e-3, "full": 1e-4, "lora": 1e-3, "adapter": 1e-3, "prompt": 1e-2}
HEAD_RATES = {"linear": 1e-2, "cosine": 1e-3}


@dataclass(frozen=True)
class Changes:
    """Which weights of a network are adapted, and which head it gets; `FineTune` documents the options."""

    mode: str
    classifier: str | None
    scale: float
    head_start: str
    n_blocks: int
    lora_rank: int
    lora_alpha: float
    adapter_width: int
    n_prompts: int
    deep_prompts: bool

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, Mode)
        _check_choice("classifier", self.classifier or self.head, Classifier)
        _check_choice("head_start", self.head_start, HeadStart)
        if self.mode in get_args(Classifier) and self.head != self.mode:
            raise ConfigError(f"finetune: mode {self.mode!r} is a {self.mode} head, got classifier={self.classifier!r}")
        if self.head == "cosine" and self.head_start == "zero":
            raise ConfigError("finetune: head_start='zero' has no direction: a cosine head starts from 'prototypes'")
        _check_real("scale", self.scale, above=0)
        _check_real("lora_alpha", self.lora_alpha, above=0)
        for name in ("n_blocks", "lora_rank", "adapter_width", "n_prompts"):
            _check_whole(name, getattr(self, name), 1)

    @property
    def head(self) -> str:
        """The kind of head, linear or cosine."""
        return self.classifier or ("cosine" if self.mode == "cosine" else "linear")


@dataclass(frozen=True)
class Descent:
    """Optimiser settings of one adaptation; `FineTune` documents the options. Learning rates are never None."""

    steps: int
    lr: float
    head_lr: float
    weight_decay: float
    dropout: float
    layer_decay: float
    optimizer: str
    schedule: str
    batch_images: int
    early_stopping: float
    patience_steps: int
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.optimizer, Optimizer)
        _check_choice("schedule", self.schedule, Schedule)
        _check_whole("steps", self.steps, 0)
        _check_whole("batch_images", self.batch_images, 1)
        _check_whole("patience_steps", self.patience_steps, 1)
        _check_real("lr", self.lr, above=0)
        _check_real("head_lr", self.head_lr, above=0)
        _check_real("weight_decay", self.weight_decay)
        _check_real("dropout", self.dropout, below=1)
        _check_real("early_stopping", self.early_stopping, below=1)
        _check_real("layer_decay", self.layer_decay, above=0, most=1)

    def rate(self, step: int) -> float:
        """Compute the factor of all learning rates in step 0 .. steps-1."""
        return 1.0 if self.schedule == "constant" else (1 + math.cos(math.pi * step / self.steps)) / 2


def _check_choice(name: str, value: object, words: object) -> None:
    if value not in get_args(words):
        raise ConfigError(f"finetune: {name} is one of {', '.join(get_args(words))}; got {value!r}")


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"finetune: {name} is a whole number, {least} or more; got {value!r}")


def _check_real(
    name: str, value: object, above: float | None = None, below: float = math.inf, most: float = math.inf
) -> None:
    """Raise `ConfigError` unless `value` is in [0, below), or in (above, below), and at most `most`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value >= 0 if above is None else value > above) and value < below and value <= most:
        return
    low = "0 or more" if above is None else f"more than {above}"
    high = f" and less than {below}" if below < math.inf else f" and at most {most}" if most < math.inf else ""
    raise ConfigError(f"finetune: {name} is a number, {low}{high}; got {value!r}")
