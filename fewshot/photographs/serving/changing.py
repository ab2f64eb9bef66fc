"""Classes that come and go: what was learned, with other classes, by features alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fewshot.errors import DataError
from fewshot.photographs.serving.learning import Learned, Method, Support, learn


def learn_anew(
    method: Method, features: np.ndarray, labels: Sequence[Any], groups: np.ndarray | None, digests: np.ndarray
) -> Learned:
    """What features (n, D) with labels (n,) teach; raises `DataError` for fewer than two classes."""
    classes, numbers = np.unique(np.asarray(labels), return_inverse=True)
    _check_number(classes)
    empty = np.zeros(0, np.int64)
    nothing = Support(features[:0], empty, np.zeros(0, str), np.zeros((0, 8), np.uint8), empty)
    return learn(method, classes, nothing.join(features, numbers, groups, digests))


def with_class(
    method: Method, old: Learned, name: Any, features: np.ndarray, groups: np.ndarray | None, digests: np.ndarray
) -> Learned:
    """With one class more; raises `DataError` for one that is there, and for groups where the others have none."""
    if name in old.classes.tolist():
        raise DataError(f"there is a class {name!r} already; remove_class({name!r}) first")
    if isinstance(name, str) != isinstance(old.classes[0].item(), str):
        raise DataError(f"classes are all words or all numbers: these are {old.classes.tolist()[:3]}, and {name!r}")
    if (groups is None) != (old.support.groups is None):
        given = "without" if old.support.groups is None else "with"
        raise DataError(f"groups are given for all classes or for none: the others were learned {given} groups")
    classes = np.unique(np.array([*old.classes.tolist(), name]))
    place = np.searchsorted(classes, old.classes)
    support = replace(old.support, labels=place[old.support.labels])
    new = np.full(len(features), classes.tolist().index(name))
    return learn(method, classes, support.join(features, new, groups, digests))


def without_class(method: Method, old: Learned, name: Any) -> Learned:
    """With one class less; raises `DataError` for an unknown one, and where fewer than two would remain."""
    if name not in old.classes.tolist():
        raise DataError(f"there is no class {name!r}; the classes are {old.classes.tolist()}")
    gone = old.classes.tolist().index(name)
    classes = np.delete(old.classes, gone)
    _check_number(classes)
    kept = old.support.select(old.support.labels != gone)
    return learn(method, classes, replace(kept, labels=kept.labels - (kept.labels > gone)))


def _check_number(classes: np.ndarray) -> None:
    if len(classes) < 2:
        raise DataError(f"a classifier needs two classes or more; there would be {classes.tolist()}")
