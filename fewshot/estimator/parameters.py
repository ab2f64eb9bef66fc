"""What a `FewShotClassifier` is asked to be: its parameters, for the rooms below it that do not know it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fewshot.images.decode import Resize
from fewshot.runtime.precision import Precision


class Asked(Protocol):
    """The parameters that decide the method and its inputs; explained at `FewShotClassifier`."""

    backbone: str | None
    method: str | None
    method_options: Mapping[str, Any] | None
    backbone_options: Mapping[str, Any] | None
    pretrained: bool
    weights: str | Path | None
    run_dir: str | Path | None
    size_px: int | None
    resize: Resize
    rotation_invariant: bool | int
    find_circle: bool
    views: Mapping[str, Any] | None
    device: str | None
    precision: Precision
    seed: int
