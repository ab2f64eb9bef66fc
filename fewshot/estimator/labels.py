"""Labels: all words, or all whole numbers; their checks, and the numbers of their classes."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from fewshot.errors import DataError
from fewshot.images.listing import list_few
from fewshot.runtime.counts import format_count

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


def number_labels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number labels (n,): the classes, sorted, and the number of each label; raises `DataError` for a single class."""
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        got = format_count(len(classes), "class", "classes")
        raise DataError(f"a classifier needs two classes or more; got {got}: {classes.tolist()}")
    return classes, numbers


def check_label(name: Any, classes: np.ndarray) -> Any:
    """Convert the label of an added class; raises `DataError` if it is a word and `classes` are numbers, or reverse."""
    _check_kinds([*classes.tolist(), check_labels([name])[0].item()])
    return np.asarray(name).item()


def insert_label(classes: np.ndarray, name: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Insert a label among sorted classes; raises `DataError` if it is one of them.

    Returns:
        The classes, sorted; the new number of each that there was; the number of the new one.
    """
    if name in classes:
        raise DataError(f"there is a class {name!r} already: call remove_class({name!r}) first")
    names = [*classes.astype(object), name]
    extended = np.unique(np.array(names, dtype=np.result_type(classes, np.asarray([name]))))
    numbers = np.searchsorted(extended, classes)
    return extended, numbers, extended.tolist().index(name)


def delete_label(classes: np.ndarray, name: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Delete a label; raises `DataError` for an unknown one, and if only one class would be left.

    Returns:
        The classes; the new number of each that there was; the number that the deleted one had.
    """
    if name not in classes:
        raise DataError(f"there is no class {name!r}; the classes are {classes.tolist()}")
    if len(classes) == 2:
        raise DataError(f"a classifier needs two classes: {name!r} is one of the last two, {classes.tolist()}")
    own = int(np.flatnonzero(classes == name)[0])
    return np.delete(classes, own), np.arange(len(classes)) - (np.arange(len(classes)) > own), own


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
