"""Regular files read whole, text files that are whole or not there at all, JSON that version control shows by line."""

import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewshot.errors import DataError

LARGEST_BYTES = 1 << 30  # of an image file; a link to an endless or sparse file must not fill the memory
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def read_regular(path: Path, name: str) -> bytes:
    """The bytes of a regular file; raises `DataError` for a pipe or device, which might never end, and for a giant."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would wait for its writer
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                what = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
                raise DataError(f"{name}: the file cannot be read: it is {what}, no regular file")
            if status.st_size > LARGEST_BYTES:
                raise DataError(f"{name}: the file has {status.st_size:,} bytes, too many for an image")
            return file.read(LARGEST_BYTES)
    except OSError as error:
        raise DataError(f"{name}: the file cannot be read ({error.strerror})") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name!r}: the file cannot be read ({error})") from error  # a name with a zero byte


def write_whole(path: str | Path, text: str) -> None:
    """Write a file under a temporary name and rename it: an interrupted write leaves what was there before.

    Folders are made where they lack; the mode of a file that is replaced stays; line ends are as in `text`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(text.encode())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def json_by_line(content: Mapping[str, Any], listed: str) -> str:
    """JSON with a line for each key, and one for each item of the list under the key `listed`."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value)
        if key == listed:
            items = ",\n".join(f"    {json.dumps(item)}" for item in value)
            text = f"[\n{items}\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
