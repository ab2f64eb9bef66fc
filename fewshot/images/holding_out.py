"""Hold images of each class out of an `ImageSet`: the classes of both parts are the same, their images are not."""

import numpy as np
import torch

from fewshot.errors import DataError
from fewshot.images.imageset import ImageSet
from fewshot.images.listing import list_few
from fewshot.runtime import seeding


def hold_out_images(imageset: ImageSet, n_images: int) -> tuple[ImageSet, ImageSet]:
    """Divide a set into the images that stay and those that are held out, the same ones on every machine.

    Of each class `n_images` are held out, in whole groups: a group goes out if each of its classes has fewer so far
    and keeps another image. So a class may lose more than `n_images` with its last group, or fewer where its groups are
    shared. A turned copy goes with its image.

    Raises:
        DataError: for a class of which nothing can be held out.
    """
    n_stored, n_classes = len(imageset.images), imageset.n_classes // imageset.n_turns
    labels = imageset.labels[:n_stored]  # the unturned images come first
    groups = np.arange(n_stored) if imageset.groups is None else imageset.groups[:n_stored]
    total, held = np.bincount(labels, minlength=n_classes), np.zeros(n_classes, np.int64)
    out = np.zeros(n_stored, bool)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    for number in seeding.numpy_generator(0, "held-out images").permutation(len(members)):
        inside = np.bincount(labels[members[number]], minlength=n_classes)
        here = inside > 0
        if (held[here] < n_images).all() and (held + inside < total)[here].all():
            held, out[members[number]] = held + inside, True
    lacking = [imageset.class_names[c] for c in np.flatnonzero(held == 0)]
    if lacking:
        raise DataError(
            f"{imageset}: no image of {list_few(lacking)} can be held out, since each has one image, or one group"
        )
    return _select(imageset, ~out, imageset.split), _select(imageset, out, f"{imageset.split}, held out")


def _select(imageset: ImageSet, stored: np.ndarray, split: str | None) -> ImageSet:
    """Select the `stored` images (n_stored,) bool, with all their turned copies."""
    rows = np.flatnonzero(stored)
    everywhere = np.flatnonzero(np.tile(stored, imageset.n_turns))
    return ImageSet(
        imageset.images[torch.from_numpy(rows)],
        imageset.labels[everywhere],
        imageset.class_names,
        None if imageset.groups is None else imageset.groups[everywhere],
        name=imageset.name,
        split=split,
        digests=imageset.digests[rows],
        n_turns=imageset.n_turns,
        origins=imageset.origins,
    )
