"""What lies in the user's cache: packed stores and features, their sizes and last uses, and how unused ones go."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fewshot.errors import OutputError
from fewshot.images.store import find_cache_dir, lock

DAY_S = 86_400


class Kept(NamedTuple):
    """A packed store (a folder) or the features of a data set (a file)."""

    path: Path
    n_bytes: int
    used: float
    """when it was last used, in seconds since 1970"""


def list_kept() -> list[Kept]:
    """List what the cache holds, the longest unused first; files that stores share count for the first of them."""
    place, counted = find_cache_dir(), set[int]()
    found = []
    for path in (*place.glob("*-*/"), *place.glob("features/*.safetensors")):
        n_bytes = 0
        with suppress(OSError):  # removed meanwhile
            for file in path.iterdir() if path.is_dir() else [path]:
                status = file.stat()
                n_bytes += 0 if status.st_ino in counted else status.st_size
                counted.add(status.st_ino)
            found.append(Kept(path, n_bytes, path.stat().st_mtime))
    return sorted(found, key=lambda kept: kept.used)


def clear_cache(days: float) -> Iterator[tuple[Kept, str]]:
    """Remove what was not used for `days`, and yield each with "" or the reason why it stays.

    A store that a process has open or is building stays. So do those that were used within `days`, silently.
    """
    for kept in list_kept():
        if time.time() - kept.used >= days * DAY_S:
            try:
                yield kept, _remove(kept.path)
            except OSError as error:
                raise OutputError(f"{kept.path} cannot be removed ({error.strerror or error})") from error


def _remove(path: Path) -> str:
    if path.suffix == ".safetensors":
        path.unlink(missing_ok=True)
        return ""
    begun = path.name.startswith(".")  # by a process that was killed, or builds it now
    lock_file = path.with_name(f"{path.name[1:].rpartition('-')[0] if begun else path.name}.lock")
    try:
        with lock(lock_file, wait=False):
            if not begun and (images := path / "images.u8").is_file():
                with images.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = path if begun else path.rename(path.with_name(f".{path.name}-cleared"))
            shutil.rmtree(gone)
            if not path.with_name(lock_file.stem).exists():
                lock_file.unlink()
    except BlockingIOError:
        return "in use"
    return ""
