"""Packed store: every image decoded once into one memory-mapped uint8 file.

A store is a folder `<cache>/<name>-<key>/` with `images.u8` (the pixels, row after row), `index.json`, `digests.npy`
and `rows.npy`. The key is a hash of everything that decides the pixels. A store is built under a temporary name and
renamed when it is complete; a lock makes a second process wait for the first. Stores of the same pixels, of copies of
one data set say, share one file. The time of a store's folder is that of its last use; whoever has it open holds a
shared lock on `images.u8`, so that `fewshot data --clear_cache` leaves it.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from fewshot.errors import DataError, OutputError
from fewshot.images.imageset import digest_images

STORE_VERSION = 2  # raise it when the layout of a store changes
logger = logging.getLogger(__name__)
Block = TypeVar("Block")


class PackedStore(NamedTuple):
    """Decoded images on disk.

    `images` (n, channels, height_px, width_px) uint8; `digests` (n, 8) uint8, their hashes; `rows` (n,), their numbers
    among all images of the blocks, with gaps if bad images were skipped; `about`, the result of `describe` when the
    store was built.
    """

    images: np.ndarray
    digests: np.ndarray
    rows: np.ndarray
    about: Any


def find_cache_dir() -> Path:
    """Find the folder of packed stores: `FEWSHOT_CACHE`, else `$XDG_CACHE_HOME/fewshot`, else `~/.cache/fewshot`."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fewshot"
    return Path(os.environ.get("FEWSHOT_CACHE") or default)


def stamp_file(path: Path, relative_to: Path | None = None) -> list[Any]:
    """Return [name, size, time of change] of a file, which shows changes without reading the file."""
    stat = path.stat()
    name = path.relative_to(relative_to) if relative_to else path.name
    return [str(name), stat.st_size, stat.st_mtime_ns]


def open_store(
    name: str,
    key: Any,
    blocks: Sequence[Block] | Callable[[], Sequence[Block]],
    decode: Callable[[Block], np.ndarray],
    image_shape: tuple[int, int, int],
    images_per_block: int = 1,
    skip_bad_images: bool = False,
    describe: Callable[[Sequence[Block]], Any] = lambda blocks: None,
) -> PackedStore:
    """Open the store of `blocks`; build it first if it does not exist.

    `key`: everything that decides the pixels (stamps of the sources, size, resize rule), as JSON. `decode(block)`
    returns uint8 (images_per_block, *image_shape), or (*image_shape) if `images_per_block` is 1, and raises `DataError`
    for a bad image. One error names all bad images; with `skip_bad_images` they are left out with a warning. If
    `blocks` is a function, it is called only to build the store; what is needed of the blocks later, `describe` returns
    as JSON.
    """
    n_blocks = None if callable(blocks) else len(blocks)
    text = json.dumps([STORE_VERSION, name, key, image_shape, images_per_block, n_blocks, skip_bad_images])
    folder = find_cache_dir() / f"{name}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    while True:
        if not folder.exists():
            with lock(folder.with_name(f"{folder.name}.lock")):
                if not folder.exists():
                    blocks = blocks() if callable(blocks) else blocks
                    about = describe(blocks)
                    _build(folder, blocks, decode, image_shape, images_per_block, skip_bad_images, about)
        try:
            return _open(folder)
        except DataError:
            if folder.exists():
                raise  # else another process has just cleared the cache


def _open(folder: Path) -> PackedStore:
    try:
        index = json.loads((folder / "index.json").read_text())
        with (folder / "images.u8").open("rb") as file:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)  # held by the map of the file, for as long as it is used
            # mode "c": pages are shared between processes and read on demand; writes stay private
            images = np.memmap(file, np.uint8, "c", shape=tuple(index["shape"]))
        with suppress(OSError):  # of a place that can only be read
            os.utime(folder)
        return PackedStore(images, np.load(folder / "digests.npy"), np.load(folder / "rows.npy"), index["about"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the packed store {folder} is damaged ({error}); delete that folder to rebuild it") from error


def _build(
    folder: Path,
    blocks: Sequence[Any],
    decode: Callable[[Any], np.ndarray],
    image_shape: tuple[int, int, int],
    images_per_block: int,
    skip_bad_images: bool,
    about: Any,
) -> None:
    for abandoned in folder.parent.glob(f".{folder.name}-*"):  # left by a killed process: this one holds the lock
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        bad: dict[int, str] = {}
        digests = []
        with (temporary / "images.u8").open("wb") as file:
            for number, images in enumerate(_decode_blocks(folder.name, blocks, decode)):
                if isinstance(images, DataError):
                    bad[number] = str(images)
                    continue
                images = np.ascontiguousarray(images).reshape(images_per_block, *image_shape)
                digests.append(digest_images(images))
                file.write(images.data)
            file.flush()
            os.fsync(file.fileno())
        _report_bad(folder.name, bad, len(blocks), skip_bad_images)
        kept = np.repeat([number not in bad for number in range(len(blocks))], images_per_block)
        np.save(temporary / "rows.npy", np.flatnonzero(kept))
        np.save(temporary / "digests.npy", np.concatenate(digests))
        index = {"shape": [int(kept.sum()), *image_shape], "about": about}
        (temporary / "index.json").write_text(json.dumps(index))
        _share_pixels(temporary, folder)
        os.rename(temporary, folder)
    except OSError as error:
        why = f"the packed store {folder} cannot be written ({error.strerror or error})"
        raise DataError(f"{why}: make room there, or name another folder in FEWSHOT_CACHE") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _share_pixels(made: Path, folder: Path) -> None:
    """Take the file of another store of the same pixels, where there is one, in the place of the one just made."""
    digests, shape = (made / "digests.npy").read_bytes(), json.loads((made / "index.json").read_text())["shape"]
    for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*/"):
        with suppress(OSError, ValueError, LookupError):  # cleared meanwhile, damaged, or of disks without links
            if json.loads((other / "index.json").read_text())["shape"] != shape:
                continue
            if (other / "digests.npy").read_bytes() == digests:
                os.link(other / "images.u8", made / "shared")
                (made / "shared").replace(made / "images.u8")
                return


def _decode_blocks(
    name: str, blocks: Sequence[Any], decode: Callable[[Any], np.ndarray]
) -> Iterator[np.ndarray | DataError]:
    """Decode blocks in order, in threads: Pillow releases the interpreter lock while it decodes."""

    def attempt(block: Any) -> np.ndarray | DataError:
        try:
            return decode(block)
        except DataError as error:
            return error

    chunk = 1024  # bounds the decoded blocks that wait in memory
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=len(blocks), desc=f"packing {name}", delay=1) as bar:
        for start in range(0, len(blocks), chunk):
            for images in pool.map(attempt, blocks[start : start + chunk]):
                bar.update()
                yield images


def _report_bad(name: str, bad: dict[int, str], n_blocks: int, skip_bad_images: bool) -> None:
    if not bad:
        return
    message = f"{name}: {len(bad)} of {n_blocks} images cannot be read: {'; '.join(_list_first(bad.values(), 10))}"
    if len(bad) == n_blocks:
        raise DataError(message)
    if not skip_bad_images:
        raise DataError(f"{message}; repair or remove them, or skip them with skip_bad_images (--skip_bad_images)")
    logger.warning("%s; they are left out", message)


def _list_first(messages: Iterable[str], n: int) -> list[str]:
    messages = list(messages)
    return messages[:n] + ([f"… and {len(messages) - n} more"] if len(messages) > n else [])


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold an advisory lock, which the system releases even if the process is killed.

    The holder may remove the file. Without `wait` raises `BlockingIOError` if another process holds it.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise OutputError(
                f"the cache folder {path.parent} cannot be written ({error.strerror}): name another in FEWSHOT_CACHE"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return
