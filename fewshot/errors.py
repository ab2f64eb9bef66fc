"""Errors a user can act on: each message is a sentence with the file, the number or the key."""


class FewShotError(ValueError):
    """Base of every error that `fewshot` raises on purpose."""


class UnknownNameError(FewShotError):
    """A name that no registry, folder or option list knows; the message offers the nearest one."""


class ConfigError(FewShotError):
    """A configuration that cannot be run as it stands."""


class DataError(FewShotError):
    """Images, labels, groups or splits that are missing, damaged or contradictory."""


class EpisodeError(FewShotError):
    """An episode specification that the image set cannot satisfy."""


class LeakageError(DataError):
    """Test data where only training or validation data may go, or training data where unseen ones are wanted."""


class CheckpointError(FewShotError):
    """A checkpoint that is missing, truncated, foreign, or could not be written."""


class OutputError(FewShotError):
    """A file that cannot be written: no folder for it, no room, no right, or something else is in its place."""


class TrainingError(FewShotError):
    """Training that cannot go on, for instance because the loss is not finite."""
