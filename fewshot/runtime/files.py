"""Read regular files, replace files atomically, and format JSON so that version control shows changes by line."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fewshot.errors import DataError, OutputError

LARGEST_BYTES = 1 << 30  # of an image file: an endless or sparse file would fill the memory
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def read_regular(path: Path, name: str, largest_bytes: int = LARGEST_BYTES, kind: str = "an image") -> bytes:
    """Read a regular file; raises `DataError` for a pipe or device, which might never end, and for a huge file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # opening a pipe would block
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                what = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                raise DataError(f"{name}: the file cannot be read: it is {what}, no regular file")
            if status.st_size > largest_bytes:
                raise DataError(f"{name}: the file has {status.st_size:,} bytes, too many for {kind}")
            data: bytes | None = file.read(largest_bytes)  # None: nothing yet, as of some files of /proc
            if data is None:
                raise DataError(f"{name}: the file cannot be read: it has nothing to say now, as a pipe")
            return data
    except OSError as error:
        raise DataError(f"{name}: the file cannot be read ({error.strerror})") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name!r}: the file cannot be read ({error})") from error  # a name with a zero byte


def follow_links(path: str | Path) -> Path:
    """Find the file that links lead to; of links in a circle, one of them, where `Path.resolve` may raise."""
    return Path(os.path.realpath(path))


def read_json(path: Path, kind: str) -> Any:
    """The content of a JSON file; raises `DataError` for anything else. `kind`: what it should be, for messages."""
    try:
        return json.loads(read_regular(path, str(path), kind=kind))
    except RecursionError as error:
        raise DataError(f"{path} is no {kind}: its values are nested too deeply") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no {kind}: it is no JSON, or cut short ({error})") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends, the file written there replaces `path`.

    If the block is interrupted, `path` stays as it was. Missing folders are created, links are followed, and the new
    file has the mode of the old one. Raises `OutputError` if `path` is no regular file or cannot be written.
    """
    target = _resolve_target(Path(path))
    start = f".{hashlib.blake2b(target.name.encode('utf-8', 'surrogateescape'), digest_size=6).hexdigest()}"
    temporary = target.with_name(f"{start}.{os.getpid()}")  # a hash: a long name with a number may be too long
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for abandoned in target.parent.glob(f"{start}.*"):
            if not _is_running(abandoned.suffix[1:]):
                abandoned.unlink(missing_ok=True)
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        kept = "; the previous file is unchanged" if target.is_file() else ""
        raise OutputError(f"{path} cannot be written ({error.strerror or error}){kept}") from error
    finally:
        with suppress(OSError):  # for instance if the folder is a file
            temporary.unlink()


def check_writable(*paths: str | Path | None, inputs: Iterable[str | Path] = ()) -> None:
    """Raise `OutputError` early for output files that cannot be written or are also `inputs`; None is skipped."""
    taken = {follow_links(path) for path in inputs}
    for path in paths:
        if path is None:
            continue
        target = _resolve_target(Path(path))
        if target in taken:
            raise OutputError(f"{path} cannot be written: this command reads or writes another file of that name")
        taken.add(target)
        try:
            target.exists()  # raises for a name that is too long, and for a folder that is a file
            folder = next(folder for folder in target.parents if folder.exists())
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror})") from error
        if not folder.is_dir():
            raise OutputError(f"{path} cannot be written: {folder} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            if os.statvfs(folder).f_flag & os.ST_RDONLY:
                raise OutputError(f"{path} cannot be written: {folder} lies in a read-only file system")
            raise OutputError(f"{path} cannot be written: there is no permission to write into the folder {folder}")


def write_whole(path: str | Path, text: str) -> None:
    """Replace a text file atomically, see `replacing`; line ends are written as in `text`."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())


def _resolve_target(path: Path) -> Path:
    """Follow links from `path` to the file that would be written; raises `OutputError` if there can be none."""
    try:
        target = path.resolve()
        status = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise OutputError(f"{path} cannot be written: it is a link to {target}, which does not exist") from None
        return target
    except (OSError, ValueError, RuntimeError) as error:  # a name too long or with a zero byte, links in a circle
        raise OutputError(f"{str(path)[:200]!r} cannot be written ({getattr(error, 'strerror', error)})") from error
    if not stat.S_ISREG(status.st_mode):
        what = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OutputError(f"{path} cannot be written: it is {what}, no regular file")
    return target


def _is_running(number: str) -> bool:
    """Whether a process with this number is running on this machine."""
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def format_json_by_line(content: Mapping[str, Any], listed: str) -> str:
    """Format JSON with one line per key, and one line per item of the list under the key `listed`."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value)
        if key == listed:
            items = ",\n".join(f"    {json.dumps(item)}" for item in value)
            text = f"[\n{items}\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
