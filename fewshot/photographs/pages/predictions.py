"""What a classifier says of a photograph, and the csv file of it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fewshot.runtime.files import write_whole

NONE = "none of these"


class Neighbour(NamedTuple):
    """A support image that is like the photograph; `similarity`: larger is more alike, 1 the same."""

    path: Path
    class_name: str
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one photograph.

    `path`: as shown; `picture`: the file that the thumbnail is made of, None for no thumbnail;
    `probabilities`: of each class; `rejected`: it is none of the classes, `predicted` being the nearest one;
    `truth`: the true class, None where unknown, and a name outside the classes for a stranger.
    """

    path: str
    picture: Path | None
    predicted: str
    probabilities: Mapping[str, float]
    rejected: bool = False
    truth: str | None = None
    nearest: Sequence[Neighbour] = ()

    @property
    def answer(self) -> str:
        """The predicted class, or that it is none."""
        return NONE if self.rejected else self.predicted

    @property
    def sure(self) -> float:
        """The probability of the predicted class."""
        return float(self.probabilities[self.predicted])

    @property
    def right(self) -> bool | None:
        """Whether the answer is right, None where the truth is unknown; a stranger is rightly rejected."""
        if self.truth is None:
            return None
        return self.rejected if self.truth not in self.probabilities else self.answer == self.truth


@dataclass(frozen=True)
class PageFacts:
    """What the page says of the classifier; what is None is left out."""

    model_file: str | None = None
    method: str | None = None
    backbone: str | None = None
    date: str | None = None
    n_support: int | None = None
    temperature: float | None = None
    threshold: float | None = None


def write_csv(path: str | Path, predictions: Sequence[Prediction], class_names: Sequence[str]) -> None:
    """`file,prediction,probability,rejected` and a column for each class, a line for each photograph, all or nothing.

    `prediction` is the nearest class also where `rejected` is `yes`.
    """
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["file", "prediction", "probability", "rejected", *class_names])
    for p in predictions:
        shares = [f"{p.probabilities[name]:.6f}" for name in class_names]
        sure = f"{p.sure:.6f}"
        rows.writerow([p.path, p.predicted, sure, "yes" if p.rejected else "no", *shares])
    write_whole(path, buffer.getvalue().encode("utf-8", "backslashreplace").decode())
