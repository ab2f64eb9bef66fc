"""What is checked of a support set before it is learned."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import DataError, LeakageError
from fewshot.experiments.starting import training_sets
from fewshot.training.leakage import find_seen_images

logger = logging.getLogger(__name__)


def warn_of_training_images(run_dir: str | Path | None, digests: np.ndarray | None) -> None:
    """Say so where images with these digests (n, 8) are among those that the run's network was trained on."""
    if run_dir is None or digests is None:
        return
    try:
        trained = training_sets(run_dir)
    except LeakageError:  # the run is gone
        return
    n_seen = int(find_seen_images(trained, digests).sum())
    if n_seen:
        logger.warning(
            "%d of %d images were trained on by %s: what is estimated from them does not hold for new images",
            n_seen, len(digests), run_dir,
        )  # fmt: skip


def check_lengths(n_images: int, **given: Any) -> None:
    """Raise `DataError` where something that is given for each image is not as long as the images are many."""
    for what, values in given.items():
        if values is not None and len(values) != n_images:
            raise DataError(f"{len(values)} {what} for {n_images} images")
