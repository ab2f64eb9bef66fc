"""The drift record: a line of JSON for each call of a classifier, appended by any number of processes.

numpy and Python alone, since predictors write it too.
"""

import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import OutputError
from fewshot.estimator.drift import DriftReference, Noted

FORMAT = "drift-1"
START = b'{"fewshot": "drift-1", "id": "'  # of the line that describes a classifier
MOST_BYTES = 32 << 20  # of a part; a full one becomes FILE.1, in the place of the one before
LONGEST_LINE = 500  # photographs
HOLDS = (
    "for each photograph that was asked about: the minute, the class that it is nearest to, whether it was refused, "
    "and a few numbers in coarse steps; no picture, no file name, nothing of who asked; the order within a call is "
    "shuffled"
)


class DriftRecord:
    """A file to which a classifier's answers are noted.

    A line is written by one call under a lock, so that lines of several processes do not mix; a line that a killed
    process left incomplete is ended by the next one. The file takes at most `most_bytes`, and as much again in FILE.1.

    Args:
        path: of the file, which is made.
        reference: what the classifier's left-out photographs were like.
        classes: its classes, sorted.
        unknown: its answer for a refused photograph.

    Raises:
        OutputError: for a file that is no drift record, or cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        reference: DriftReference,
        classes: Sequence[Any],
        unknown: Any,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.path, self.reference, self.most_bytes = Path(path), reference, most_bytes
        body = _format_header(reference, classes, unknown)
        self.id = hashlib.blake2b(body.encode(), digest_size=6).hexdigest()
        self._header = START + f'{self.id}", {body}\n'.encode()
        self._place = 0  # of the header in the file
        self._shuffle = np.random.default_rng()  # of no use to anyone who would know the order
        with self._open():
            pass

    def append(self, noted: Noted) -> None:
        """Append what was noted of photographs; raises `OutputError` where that fails."""
        order = self._shuffle.permutation(len(noted))
        minute = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
        for start in range(0, len(order), LONGEST_LINE):
            part = noted.select(order[start : start + LONGEST_LINE])
            line: dict[str, Any] = {"of": self.id, "at": minute, "class": part.nearest.tolist()}
            if part.refused is not None:
                line["refused"] = part.refused.astype(int).tolist()
            line |= {name: levels.tolist() for name, levels in part.levels.items()}
            text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            with self._open() as (file, size):
                self._write(file, size, text)

    @contextmanager
    def _open(self) -> Any:
        """Yield the file, locked, and its size; its last line is complete."""
        try:
            file, size = self._open_locked()
            try:
                yield file, size
            finally:
                os.close(file)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror or error})") from error

    def _open_locked(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe would block
        while True:
            file = os.open(self.path, flags, 0o600)
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode):
                    raise OutputError(f"{self.path} is no regular file: name another one for the drift record")
                fcntl.flock(file, fcntl.LOCK_EX)
                here = os.stat(self.path)  # another process may have renamed it while this one waited
                status = os.fstat(file)
                if (here.st_dev, here.st_ino) == (status.st_dev, status.st_ino):
                    return file, self._mend(file, status.st_size)
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _mend(self, file: int, size: int) -> int:
        """End an incomplete last line; raises `OutputError` for a file that is no drift record."""
        first = os.pread(file, len(START), 0)
        if not START.startswith(first):
            raise OutputError(f"{self.path} is there already and is no drift record: name another file")
        if len(first) < len(START):  # nothing yet, or the beginning of a first line
            os.ftruncate(file, 0)
            return 0
        return size if os.pread(file, 1, size - 1) == b"\n" else size + os.write(file, b"\n")

    def _write(self, file: int, size: int, line: bytes) -> None:
        text = line if self._is_described(file, size) else self._header + line
        if size and size + len(text) > self.most_bytes:
            os.replace(self.path, f"{self.path}.1")
            with self._open() as (fresh, begun):  # the others, who wait for the lock, see that the file is another one
                self._write(fresh, begun, line)
            return
        if text is not line:
            self._place = size
        while text:
            text = text[os.write(file, text) :]

    def _is_described(self, file: int, size: int) -> bool:
        """Whether the header is in the file, where it was seen last or anywhere else."""
        if size and os.pread(file, len(self._header), self._place) == self._header:
            return True
        found = _find_line(file, size, self._header)
        self._place = found or 0
        return found is not None


def _format_header(reference: DriftReference, classes: Sequence[Any], unknown: Any) -> str:
    noted = reference.noted
    left_out: dict[str, Any] = {"class": noted.nearest.tolist()}
    if noted.refused is not None:
        left_out["refused"] = noted.refused.astype(int).tolist()
    left_out |= {name: levels.tolist() for name, levels in noted.levels.items()}
    steps = {name: float(f"{step:.6g}") for name, step in reference.steps.items()}
    told = {"holds": HOLDS, "classes": [str(c) for c in classes], "unknown": str(unknown), "steps": steps}
    return json.dumps(told | {"left_out": left_out})[1:]


def _find_line(file: int, size: int, line: bytes) -> int | None:
    """Find where a line of the file begins that is `line`, which ends with its line end."""
    position, before = 0, b"\n"
    while position < size and (block := os.pread(file, 1 << 20, position)):
        before += block
        position += len(block)
        place = before.find(b"\n" + line)
        if place >= 0:
            return position - len(before) + place + 1
        before = before[-len(line) :]
    return None
