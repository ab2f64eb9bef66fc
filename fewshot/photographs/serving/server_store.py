"""The classifier of a server: each change of its classes is stored before it is acknowledged."""

import copy
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fewshot.errors import ConfigError, DataError, UnknownNameError
from fewshot.photographs.serving.pictures import check_all_read
from fewshot.photographs.serving.predictor import Predictor
from fewshot.photographs.serving.server_watch import ServerWatch
from fewshot.runtime.terminal import visible_text

LONGEST_NAME = 100  # characters of a class


class ExistsError(DataError):
    """A class of this name exists already."""


class Store:
    """A predictor in its folder, of which one process at a time may change the classes.

    Args:
        folder: as `fewshot export` wrote it.
        n_threads: as of `Predictor`.
        watch: file to which what was answered is noted, or None.
        coverage: of the sets of classes that may be right; there are none where so few photographs cannot promise it.

    Attributes:
        predictor: what answers now; a change puts another in its place.

    Raises:
        ConfigError: where another process serves the folder.
    """

    def __init__(
        self, folder: str | Path, n_threads: int | None = None, watch: str | None = None, coverage: float = 0.95
    ) -> None:
        self.predictor, self.coverage = Predictor(folder, n_threads), coverage
        self._watch = None if watch is None else ServerWatch(watch, self.predictor)
        self._changing = Lock()
        self._folder = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        except OSError as error:
            os.close(self._folder)
            raise ConfigError(f"{folder} is served by another process already") from error

    def close(self) -> None:
        """Release the folder to other processes."""
        os.close(self._folder)

    def read(self, pictures: Sequence[bytes], names: Sequence[str]) -> np.ndarray:
        """Decode pictures; raises `DataError` naming those that cannot be read."""
        pixels, bad = self.predictor.read(pictures)
        named = {n: f"{visible_text(names[n])}: {why.removeprefix(f'image {n}: ')}" for n, why in bad.items()}
        check_all_read(named, len(pictures))
        return pixels

    def answer(self, pixels: np.ndarray) -> list[dict[str, Any]]:
        """Answer about each picture, in the form of `server_schema.Answer`."""
        predictor = self.predictor
        features = predictor.encode(pixels)
        try:
            answers = predictor.answer(features, self.coverage)
        except DataError:  # the coverage cannot be promised
            answers = predictor.answer(features)
        if self._watch is not None:
            self._watch.note(predictor, features, answers)
        names = [str(name) for name in predictor.classes]
        said = []
        for n, probabilities in enumerate(answers.probabilities):
            order = np.argsort(-probabilities, kind="stable")
            said.append({
                "label": str(answers.labels[n]),
                "accepted": bool(answers.accepted[n]),
                "probabilities": {names[i]: float(probabilities[i]) for i in order},
                "known": None if answers.known is None else float(answers.known[n]),
                "set": None if answers.sets is None else [str(name) for name in answers.sets[n]],
            })  # fmt: skip
        return said

    def add(self, name: str, pictures: Sequence[bytes], names: Sequence[str], groups: Sequence[str] | None) -> None:
        """Learn a class of `pictures` and store it.

        Where the classifier was fitted with groups and none are given, each picture is its own.
        Raises `ExistsError`, and `DataError` for what cannot be learned from; then nothing has changed.
        """
        _check_name(name)
        with self._changing:
            if name in map(str, self.predictor.classes):
                raise ExistsError(f"there is a class {name!r} already: remove it first")
            self.read(pictures, names)
            if groups is None and self.predictor.has_groups:
                groups = [f"{name}, photograph {n}" for n in range(len(pictures))]
            changed = copy.copy(self.predictor)
            changed.add_class(self._as_label(name), pictures, groups)
            self._replace(changed)

    def remove(self, name: str) -> None:
        """Remove a class, and store that; raises `UnknownNameError`, and `DataError` if only two classes remain."""
        with self._changing:
            labels = [label for label in self.predictor.classes if str(label) == name]
            if not labels:
                raise UnknownNameError(f"there is no class {name!r}")
            changed = copy.copy(self.predictor)
            changed.remove_class(labels[0])
            self._replace(changed)

    def _replace(self, changed: Predictor) -> None:
        changed.save()
        self.predictor = changed

    def _as_label(self, name: str) -> Any:
        """Convert a name to the type of the other labels: a number if they are numbers."""
        kind = type(self.predictor.classes[0]) if self.predictor.classes else str
        try:
            return kind(name)
        except ValueError:
            raise DataError(f"the classes are numbers, such as {self.predictor.classes[0]}; got {name!r}") from None


def _check_name(name: str) -> None:
    """Names are never those of files, and still may be shown, written to one, or typed."""
    odd = not name.isprintable() or "\N{REPLACEMENT CHARACTER}" in name or name != name.strip()
    if odd or not name or len(name) > LONGEST_NAME or set(name) & {"/", "\\"} or not set(name) - {"."}:
        raise DataError(
            f"a class is called by 1 to {LONGEST_NAME} printable characters without slashes, not only by dots; got "
            f"{visible_text(name[:LONGEST_NAME])!r}"
        )
