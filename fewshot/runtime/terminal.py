"""Print untrusted text, such as names of files, safely on a terminal."""

import logging
import sys


def visible_text(text: object, keep: str = "") -> str:
    r"""Escape control characters (except those in `keep`) and undecodable bytes of `text`, for instance as `\x1b`."""
    shown = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(shown).encode("utf-8", "backslashreplace").decode()


def settle_streams() -> None:
    """Make stdout and stderr escape characters that they cannot encode, and log messages escape control characters."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_make_visible)


def _make_visible(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible_text(record.getMessage(), keep="\n\t"), ()
    return True
