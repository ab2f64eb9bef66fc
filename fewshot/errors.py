"""Errors that a user can act on: each message is a sentence that names the file, the number or the key."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class FewShotError(ValueError):
    """Base class of the errors that `fewshot` raises on purpose."""


class UnknownNameError(FewShotError):
    """A name that no registry, folder or list of options contains; the message suggests the nearest one."""


class ConfigError(FewShotError):
    """A configuration that cannot be run as it stands."""


class DataError(FewShotError):
    """Images, labels, groups or splits that are missing, damaged or inconsistent."""


class EpisodeError(FewShotError):
    """An episode specification that the image set cannot satisfy."""


class LeakageError(DataError):
    """Test data used in training or validation, or training data used where unseen classes are measured."""


class CheckpointError(FewShotError):
    """A checkpoint that is missing, truncated, of another program, or could not be written."""


class OutputError(FewShotError):
    """A file that cannot be written: no folder, no space, no permission, or something else is in its place."""


class TrainingError(FewShotError):
    """Training that cannot continue, for instance because the loss is not finite."""


@contextmanager
def explaining(owner: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Raise `ConfigError` where given options have the right types, but `owner` cannot be made of their values.

    Without options an error is one of the code of `owner`, and stays as it is.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, MemoryError) as error:
        if isinstance(error, FewShotError) or not options:
            raise
        what = " ".join(str(error).split())[:200]
        raise ConfigError(f"{owner} cannot be made with {dict(options)}: {what}") from error
