"""Text files that are whole or not there at all, and JSON that version control can show line by line."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def format_json_by_line(content: Mapping[str, Any], listed: str) -> str:
    """JSON with a line for each key, and one for each item of the list under the key `listed`."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value)
        if key == listed:
            items = ",\n".join(f"    {json.dumps(item)}" for item in value)
            text = f"[\n{items}\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
