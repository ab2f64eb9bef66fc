"""Text that others chose, such as names of files, on a terminal."""

import logging
import sys


def visible_text(text: object, keep: str = "") -> str:
    r"""`text` with control characters, but those in `keep`, and undecodable bytes written as `\x1b` and the like."""
    shown = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(shown).encode("utf-8", "backslashreplace").decode()


def settle_streams() -> None:
    """Let no character that stdout or stderr cannot show end a command, and no warning control the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_make_visible)


def _make_visible(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible_text(record.getMessage(), keep="\n\t"), ()
    return True
