"""Event files on a full disk: TensorBoard's writer fails in a thread, and names no file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewshot.errors import OutputError


@contextmanager
def naming_events(folder: Path) -> Iterator[None]:
    """Raise `OutputError` with the name of `folder` where its event files cannot be written.

    The thread that writes them fails with the same error, of which nothing is printed.
    """
    before = threading.excepthook
    threading.excepthook = lambda failed: None if isinstance(failed.exc_value, OSError) else before(failed)
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        message = f"{folder}: event files for TensorBoard cannot be written ({error.strerror or error})"
        raise OutputError(message) from error
    finally:
        threading.excepthook = before
