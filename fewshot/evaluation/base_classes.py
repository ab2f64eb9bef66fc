"""What adapting a network to an episode costs the base classes, which it could tell apart before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError
from fewshot.evaluation.embed import embed
from fewshot.evaluation.statistics import compute_mean_interval, compute_paired_difference
from fewshot.methods import Method
from fewshot.methods.distances import prototypes, squared_euclidean
from fewshot.runtime import seeding
from fewshot.runtime.devices import device_of
from fewshot.runtime.precision import Precision

Encode = Callable[[Tensor], Tensor]


class ClassMeans(nn.Module):
    """Maps features (n, D) to minus their squared distances from the mean feature of each class, (n, n_classes)."""

    means: Tensor

    def __init__(self, features: Tensor, labels: Tensor, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("means", prototypes(features[None], labels[None], n_classes)[0])  # (1, n_classes, D)

    def forward(self, features: Tensor) -> Tensor:
        return -squared_euclidean(features[None], self.means)[0]


@dataclass(frozen=True)
class BaseClasses:
    """Held-out images of the classes that a network can tell apart, and the classifier of its features that does.

    The classifier stays as it is while an episode adapts the network below it.

    Args:
        imageset: images of these classes that the network was not trained on.
        classifier: maps features (n, D) to logits (n, n_classes).
        kind: what the classifier is: the network's own, or the distance to the mean features of training images.
        n_images: how many of the images are drawn for each episode.

    Raises:
        ConfigError: for more images than there are.
    """

    imageset: ImageSet
    classifier: nn.Module
    kind: Literal["own classifier", "class means"]
    n_images: int

    def __post_init__(self) -> None:
        if not 0 < self.n_images <= len(self.imageset):
            raise ConfigError(
                f"{self.n_images} images of the base classes are to be drawn for each episode, and {self.imageset} has "
                f"{len(self.imageset)}: ask for fewer, or hold out more"
            )

    def draw(self, seed: int, episode: int) -> Tensor:
        """Draw the rows of an episode's images, (n_images,), without replacement."""
        draws = seeding.numpy_generator(seed, "base classes", episode)
        return torch.from_numpy(draws.choice(len(self.imageset), self.n_images, replace=False))

    def find_right(self, features: Tensor, rows: Tensor) -> Tensor:
        """Find which of the images in `rows` (n,) are classified rightly by their features (n, D): (n,) bool."""
        with torch.autocast(features.device.type, enabled=False):
            answers = self.classifier(features).argmax(1).cpu()
        return answers == torch.from_numpy(self.imageset.labels)[rows]

    def describe(self, before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
        """Describe for the header of records what was asked, and means and 95% intervals over episodes."""
        estimates = {"before": compute_mean_interval(before), "after": compute_mean_interval(after)}
        estimates["difference"] = compute_paired_difference(after, before)
        return {
            "classifier": self.kind,
            "n_classes": self.imageset.n_classes,
            "n_held_out": len(self.imageset),
            "n_images": self.n_images,
            "data_fingerprint": self.imageset.fingerprint,
            **{name: [round(value, 6) for value in estimate] for name, estimate in estimates.items()},
        }


class BaseAccuracy:
    """Measures accuracy on the base classes before any episode and, with the network that each has adapted, after."""

    def __init__(self, base: BaseClasses, method: Method, seed: int, precision: Precision) -> None:
        if method.backbone is None or not (method.uses_features or method.reports_adapted):
            raise ConfigError(
                f"{method.label} does not show the network that it adapts to an episode, so that what adapting costs "
                "the base classes cannot be measured; finetune does, and methods of features adapt none"
            )
        self.base, self.method, self.seed, self.device = base, method, seed, device_of(method)
        base.classifier.to(self.device).eval()
        features = embed(method.backbone, base.imageset, precision=precision).values
        self.right = base.find_right(features, torch.arange(len(base.imageset)))  # (n_held_out,) before adapting
        self.after: dict[int, float] = {}

    def watch(self, first: int) -> Callable[[int, Encode], None]:
        """What a batch of episodes from number `first` on gives the encoder of each of its episodes to."""

        def ask(number: int, encode: Encode) -> None:
            rows = self.base.draw(self.seed, first + number)
            features = encode(self.base.imageset.gather(rows).to(self.device))
            self.after[first + number] = self.base.find_right(features, rows).double().mean().item()

        return ask

    def shares(self, episode: int) -> tuple[float, float]:
        """The shares of right answers before and after; a method of features leaves the network as it is."""
        before = self.right[self.base.draw(self.seed, episode)].double().mean().item()
        return before, before if self.method.uses_features else self.after.pop(episode)
