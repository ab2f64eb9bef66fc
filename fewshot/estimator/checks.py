"""Checks of a support set before the classifier learns it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import DataError, LeakageError
from fewshot.experiments.starting import load_training_sets
from fewshot.runtime.counts import format_count
from fewshot.training.leakage import find_seen_images

logger = logging.getLogger(__name__)


def warn_of_training_images(run_dir: str | Path | None, digests: np.ndarray | None) -> None:
    """Warn if the run's network was trained on any of the images with these digests (n, 8)."""
    if run_dir is None or digests is None:
        return
    try:
        trained = load_training_sets(run_dir)
    except LeakageError:  # the run's folder no longer exists
        return
    n_seen = int(find_seen_images(trained, digests).sum())
    if n_seen:
        logger.warning(
            "%s was trained on %d of these %s: accuracy estimated from them does not hold for new images",
            run_dir, n_seen, format_count(len(digests), "image"),
        )  # fmt: skip


def check_lengths(n_images: int, **given: Any) -> None:
    """Raise `DataError` unless each of `given` (labels=…, groups=…) holds one value for each image."""
    for what, values in given.items():
        if values is not None and len(values) != n_images:
            message = f"{format_count(len(values), what.removesuffix('s'))} for {format_count(n_images, 'image')}"
            raise DataError(f"{message}: give one for each")
