"""Print untrusted text, such as names of files, safely on a terminal."""

import hashlib
import logging
import os
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

FORGET_SECONDS = 600  # what was said longer ago is no copy


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
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata and large images: errors are ours
    if os.environ.get("LOCAL_RANK", "0") != "0":  # launched by torchrun beside another process, which says the same
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)


def report_error(text: str) -> None:
    """Print `text` to stderr; of the processes that torchrun started on this machine, only the first to say it does."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        name = hashlib.blake2b(f"{os.getppid()} {text}".encode("utf-8", "replace"), digest_size=12).hexdigest()
        said = Path(tempfile.gettempdir()) / f"fewshot-said-{name}"
        with suppress(FileNotFoundError):
            if time.time() - said.stat().st_mtime > FORGET_SECONDS:  # of an earlier launch, whose number came again
                said.unlink()
        try:
            said.open("x").close()
        except FileExistsError:
            return
    print(text, file=sys.stderr, flush=True)


def _make_visible(record: logging.LogRecord) -> bool:
    ours = record.name.partition(".")[0] == "fewshot"  # which logs sentences: a line break in them is of a name
    record.msg, record.args = visible_text(record.getMessage(), keep="" if ours else "\n\t"), ()
    return True
