"""Predictions of photographs, and the csv file of them."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fewshot.runtime.files import write_whole

NONE = "none of these"
COLUMNS = ("file", "prediction", "nearest_class", "probability", "rejected")
SET_COLUMN, SEPARATOR = "could_be", " | "  # where there are prediction sets
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is a formula for spreadsheets


class Neighbour(NamedTuple):
    """A support image similar to the photograph; `similarity` is at most 1, for equal features."""

    path: Path
    class_name: str
    similarity: float


@dataclass(frozen=True)
class Prediction:
    """A classifier's prediction of one photograph.

    `path`: as shown. `picture`: file for the thumbnail, or None. `predicted`: the most probable class.
    `probabilities`: of each class. `rejected`: the photograph belongs to no known class. `truth`: the true class, None
    if unknown; a name that is not in `probabilities` is a class that the classifier does not know. `nearest`: the most
    similar support images. `none`: the answer for a rejected photograph. `could_be`: the prediction set, most probable
    class first; empty if no sets were made.
    """

    path: str
    picture: Path | None
    predicted: str
    probabilities: Mapping[str, float]
    rejected: bool = False
    truth: str | None = None
    nearest: Sequence[Neighbour] = ()
    none: str = NONE
    could_be: Sequence[str] = ()

    @property
    def answer(self) -> str:
        """The predicted class, or `none` if the photograph is rejected."""
        return self.none if self.rejected else self.predicted

    @property
    def sure(self) -> float:
        """The probability of the predicted class."""
        return float(self.probabilities[self.predicted])

    @property
    def right(self) -> bool | None:
        """Whether the answer is right, None if the truth is unknown; rejecting an unknown class is right."""
        if self.truth is None:
            return None
        return self.rejected if self.truth not in self.probabilities else self.answer == self.truth


@dataclass(frozen=True)
class PageFacts:
    """Facts about the classifier for the foot of the page; those that are None are left out."""

    model_file: str | None = None
    method: str | None = None
    backbone: str | None = None
    date: str | None = None
    n_support: int | None = None
    temperature: float | None = None
    threshold: float | None = None


def choose_word_for_none(predictions: Sequence[Prediction]) -> str:
    """Choose the answer for a photograph of no known class."""
    return predictions[0].none if predictions else NONE


def write_csv(path: str | Path, predictions: Sequence[Prediction], class_names: Sequence[str]) -> None:
    """Write a csv line for each photograph: file, answer, nearest class, a probability for each class.

    `prediction` is the answer; `nearest_class` is the most probable class, even if `rejected` is `yes`. Column names
    are distinct, and a cell that a spreadsheet would take for a formula gets a leading apostrophe. If writing fails,
    no file is left.
    """
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    with_sets = any(p.could_be for p in predictions)
    rows.writerow([*COLUMNS, *(SET_COLUMN,) * with_sets, *_name_class_columns(class_names)])
    for p in predictions:
        shares = [f"{p.probabilities[name]:.6f}" for name in class_names]
        rejected = "yes" if p.rejected else "no"
        could_be = [_defuse(SEPARATOR.join(p.could_be))] * with_sets
        rows.writerow([*map(_defuse, (p.path, p.answer, p.predicted)), f"{p.sure:.6f}", rejected, *could_be, *shares])
    write_whole(path, buffer.getvalue().encode("utf-8", "backslashreplace").decode())


def _name_class_columns(class_names: Sequence[str]) -> Iterator[str]:
    taken = {*COLUMNS, SET_COLUMN}
    for name in class_names:
        column = _defuse(name)
        while column in taken or (column != name and column in class_names):
            column = f"class {column}"
        taken.add(column)
        yield column


def _defuse(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
