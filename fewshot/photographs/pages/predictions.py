"""What a classifier says of a photograph, and the csv file of it."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fewshot.runtime.files import write_whole

NONE = "none of these"
COLUMNS = ("file", "prediction", "nearest_class", "probability", "rejected")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets calculate


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
    `truth`: the true class, None where unknown, and a name outside the classes for a stranger; `none`: the word for
    an answer that is no class.
    """

    path: str
    picture: Path | None
    predicted: str
    probabilities: Mapping[str, float]
    rejected: bool = False
    truth: str | None = None
    nearest: Sequence[Neighbour] = ()
    none: str = NONE

    @property
    def answer(self) -> str:
        """The predicted class, or that it is none."""
        return self.none if self.rejected else self.predicted

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


def choose_word_for_none(predictions: Sequence[Prediction]) -> str:
    """What is answered for a photograph of no class."""
    return predictions[0].none if predictions else NONE


def write_csv(path: str | Path, predictions: Sequence[Prediction], class_names: Sequence[str]) -> None:
    """A line for each photograph: file, answer, nearest class, a probability for each class; all or nothing.

    `prediction` is the answer, `nearest_class` the likeliest class also where `rejected` is `yes`. No two columns have
    one name, and no cell begins like a formula: spreadsheets would calculate it.
    """
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow([*COLUMNS, *_name_class_columns(class_names)])
    for p in predictions:
        shares = [f"{p.probabilities[name]:.6f}" for name in class_names]
        rejected = "yes" if p.rejected else "no"
        rows.writerow([*map(_defuse, (p.path, p.answer, p.predicted)), f"{p.sure:.6f}", rejected, *shares])
    write_whole(path, buffer.getvalue().encode("utf-8", "backslashreplace").decode())


def _name_class_columns(class_names: Sequence[str]) -> Iterator[str]:
    taken = set(COLUMNS)
    for name in class_names:
        column = _defuse(name)
        while column in taken or (column != name and column in class_names):
            column = f"class {column}"
        taken.add(column)
        yield column


def _defuse(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
