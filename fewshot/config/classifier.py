"""The options of a `FewShotClassifier`, shared by its constructor, the command line and saved classifiers."""

from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from fewshot.errors import ConfigError
from fewshot.runtime.choices import Precision


@dataclass(eq=False)
class ClassifierOptions:
    """The network and method that classify images, and how images are resized for them."""

    backbone: str | None = "efficientnet-lite0"
    """name of a backbone; timm/NAME and torchvision/NAME are any model of these libraries"""
    method: str | None = None
    """name of a method (default: baseline, with its logistic solver)"""
    _: KW_ONLY
    method_options: dict[str, Any] | None = None
    """options of the method"""
    backbone_options: dict[str, Any] | None = None
    """options of the backbone"""
    pretrained: bool = True
    """load the backbone's published weights"""
    weights: str | Path | None = None
    """file of weights to load instead (with --pretrained false)"""
    run_dir: str | Path | None = None
    """folder of a finished run whose backbone (and method) are used"""
    size_px: int | None = None
    """side to which images are resized (default: the backbone's own)"""
    resize: Literal["crop", "pad", "stretch"] = "pad"
    """crop: the largest centred square; pad: the whole image on white; stretch: ignore the aspect ratio"""
    rotation_invariant: bool | int = False
    """average the features of rotated views: how many, or true for 8 (24 with method aligned)"""
    find_circle: bool = False
    """find a round object near the middle, such as a coin, and cut it out"""
    views: dict[str, Any] | None = None
    """further options of `Viewed`: zooms; colour and radius, cues that are appended to the features"""
    device: str | None = None
    """cpu, cuda, cuda:1, … (default: an accelerator if there is one)"""
    precision: Precision = "auto"
    """auto: bfloat16 if the hardware multiplies it (GPUs; CPUs with AMX or AVX512-BF16), else float32; tf32: of GPUs"""
    seed: int = 0
    """seed of everything random"""


@dataclass(eq=False)
class RefusalOptions:
    """In which of three ways it is chosen when the answer is `unknown`."""

    _: KW_ONLY
    false_accept_rate: float | None = None
    """answer `unknown` so that about this share of strange images is taken for a class"""
    false_reject_rate: float | None = None
    """answer `unknown` so that about this share of images of the classes is refused"""
    balanced: bool = False
    """answer `unknown` so that as large a share of strange images is accepted as of images of the classes refused"""

    @property
    def refuses(self) -> bool:
        """Whether one of the ways is asked for."""
        return self.false_accept_rate is not None or self.false_reject_rate is not None or self.balanced

    def describe_refusals(self) -> str:
        """In which way is asked, in words; `refuses` is true."""
        if self.false_accept_rate is not None:
            return f"but for about {self.false_accept_rate:.0%} of them (false_accept_rate)"
        if self.false_reject_rate is not None:
            return f"and at most {self.false_reject_rate:.0%} of your own photographs (false_reject_rate)"
        return "as often as possible at the same price for your own photographs (balanced)"

    def check_refusals(self) -> None:
        """Raise `ConfigError` for a share that is none, and for two ways at once."""
        rates = {name: getattr(self, name) for name in ("false_accept_rate", "false_reject_rate")}
        for name, rate in rates.items():
            if rate is not None and not 0 <= rate < 1:
                raise ConfigError(f"{name} is a share between 0 and 1, got {rate}")
        asked = [name for name, rate in rates.items() if rate is not None] + ["balanced"] * self.balanced
        if len(asked) > 1:
            raise ConfigError(f"{' and '.join(asked)} are different ways to choose what is refused: take one of them")


@dataclass(eq=False)
class AnswerOptions(ClassifierOptions, RefusalOptions):
    """How a classifier turns scores into answers."""

    _: KW_ONLY
    calibrate: bool = True
    """calibrate the probabilities: fit a temperature to images that are held out by group"""
    unknown: Any = "none of these"
    """the answer for a rejected image"""


def options_of(kind: type[ClassifierOptions], given: ClassifierOptions, **changes: Any) -> dict[str, Any]:
    """Read the options that `kind` declares from `given`, with `changes` in place of some values."""
    return {field.name: getattr(given, field.name) for field in fields(kind)} | changes
