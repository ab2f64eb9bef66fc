"""Checks of labels: all words, or all whole numbers."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from fewshot.errors import DataError
from fewshot.images.listing import list_few

UNKNOWN = str | int | float  # what may be answered for an image of no known class


def check_labels(y: Sequence[Any]) -> np.ndarray:
    """Convert labels to an array (n,); raises `DataError` if some are missing, or if words and numbers are mixed."""
    plain = y.tolist() if isinstance(y, np.ndarray) and y.ndim == 1 else y
    if isinstance(plain, list | tuple):
        missing = [number for number, label in enumerate(plain) if label is None or _is_nan(label)]
        if missing:
            are = "is" if len(missing) == 1 else "are"
            raise DataError(f"{len(missing)} of {len(plain)} labels {are} missing: of image {list_few(missing)}")
        _check_kinds(plain)
    labels = column_or_1d(y, warn=True)
    with warnings.catch_warnings():  # scikit-learn takes one image a class for regression targets
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        check_classification_targets(labels)
    return labels


def check_label(name: Any, classes: np.ndarray) -> Any:
    """Convert the label of an added class; raises `DataError` if it is a word and `classes` are numbers, or reverse."""
    _check_kinds([*classes.tolist(), check_labels([name])[0].item()])
    return np.asarray(name).item()


def check_unknown(unknown: Any, classes: np.ndarray) -> None:
    """Raise `DataError` if a class has the name that stands for "no known class"."""
    if not isinstance(unknown, UNKNOWN):
        raise DataError(f"unknown is a word or a number, got {unknown!r}")
    if str(unknown) in map(str, classes):
        raise DataError(
            f"a class is called {unknown!r}, which is the answer for an image of no known class: rename the class, or "
            "choose another answer (unknown=…, --unknown)"
        )


def _check_kinds(labels: Sequence[Any]) -> None:
    """Raise `DataError` unless all labels are words, or all are numbers."""
    places = {_describe_kind(label): number for number, label in reversed(list(enumerate(labels)))}
    strange = {kind: number for kind, number in places.items() if kind not in ("a word", "a number")}
    if strange:
        kind, number = next(iter(strange.items()))
        why = "Complex data not supported: " if isinstance(labels[number], complex) else ""  # scikit-learn's words
        raise DataError(
            f"{why}labels are words or whole numbers; the one of image {number} is {kind}: {labels[number]!r}"
        )
    if len(places) > 1:
        word, other = (labels[places[kind]] for kind in ("a word", "a number"))
        raise DataError(f"labels are all words or all numbers; these are both: {str(word)!r} and {other!r}")


def _describe_kind(label: Any) -> str:
    if isinstance(label, str):
        return "a word"
    if isinstance(label, bool | int | float | np.bool_ | np.number):
        return "a number"
    return f"of type {type(label).__name__}"


def _is_nan(label: Any) -> bool:
    return isinstance(label, float | np.floating) and label != label
