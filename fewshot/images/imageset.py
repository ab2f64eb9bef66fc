"""`ImageSet`: uint8 images with labels, class names and groups."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fewshot.errors import DataError
from fewshot.registry import unknown_name
from fewshot.runtime.transfer import send

QUARTER_TURNS = 4
CHANNELS = (1, 3, 4)  # plausible numbers of channels


class ImageSet:
    """Labelled images, addressed by row number.

    With `rotations_as_classes()` each class appears four times, rotated by 0, 90, 180 and 270 degrees. Then n_images =
    4 * n_stored, and row r is stored image `r % n_stored` rotated by `r // n_stored` quarter turns; pixels are not
    copied.

    Args:
        images: uint8 (n_stored, channels, height_px, width_px), an array or tensor, possibly memory mapped.
        labels: (n_images,) integers, dense: every class in 0..n_classes-1 has an image.
        class_names: n_classes distinct names.
        groups: (n_images,) integers or strings, or None: images that share a photograph, writer, specimen or video
            share a group.
        name: the data set that the images come from.
        split: the split of the data set, such as "train".
        digests: hashes (n_stored, 8) uint8 of the images, if the packed store has computed them.
        n_turns: 4 if rotated copies are separate classes, else 1.
        origins: (n_classes,) identity of each class across data sets, by which leakage is detected: cifar_fs and fc100
            both have "cifar100/apple", and rotations share the origin of their class (default: the names of the set
            and of the class).

    Raises:
        DataError: for inconsistent lengths, labels or names, and for a class without images.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor,
        labels: Sequence[int] | np.ndarray | Tensor,
        class_names: Sequence[str],
        groups: Sequence[object] | np.ndarray | Tensor | None = None,
        *,
        name: str = "arrays",
        split: str | None = None,
        digests: np.ndarray | None = None,
        n_turns: int = 1,
        origins: Sequence[str] | None = None,
    ) -> None:
        self.images = _as_uint8_tensor(images)
        self.labels = _as_int64(labels, "labels")
        self.class_names = tuple(map(str, class_names))
        self.groups = None if groups is None else _number_groups(groups)
        self.name, self.split, self.n_turns = name, split, n_turns
        self.origins = tuple(origins or (f"{name}/{class_name}" for class_name in self.class_names))
        self._digests = digests
        self._check()

    def _check(self) -> None:
        n_images = len(self.images) * self.n_turns
        if n_images == 0:
            raise DataError(f"{self}: it contains no image")
        for what, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and len(values) != n_images:
                raise DataError(f"{self}: {len(values)} {what} for {n_images} images")
        if len(self.origins) != len(self.class_names):
            raise DataError(f"{self}: {len(self.origins)} origins for {len(self.class_names)} classes")
        if len(set(self.class_names)) != len(self.class_names):
            twice = sorted({c for c in self.class_names if self.class_names.count(c) > 1})
            raise DataError(f"{self}: duplicate class names {twice}")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise DataError(
                f"{self}: labels run from {self.labels.min()} to {self.labels.max()} "
                f"for {len(self.class_names)} class names"
            )
        empty = np.flatnonzero(self.class_counts == 0)
        if len(empty):
            raise DataError(f"{self}: no image for {[self.class_names[c] for c in empty[:10]]}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        where = f"{self.name}/{self.split}" if self.split else self.name
        turns = f", {self.n_turns} rotations as classes" if self.n_turns > 1 else ""
        return f"ImageSet({where}: {len(self.class_names)} classes, {self.image_shape}{turns})"

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height_px, width_px)."""
        return tuple(self.images.shape[1:])

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Number of images of each class, (n_classes,)."""
        return np.bincount(self.labels, minlength=self.n_classes)

    @cached_property
    def digests(self) -> np.ndarray:
        """A hash of each stored image, (n_stored, 8) uint8."""
        return digest_images(self.images.cpu().numpy()) if self._digests is None else self._digests

    @cached_property
    def fingerprint(self) -> str:
        """Hash of pixels, labels, class names, groups and rotations; every record contains it."""
        digest = hashlib.blake2b(digest_size=8)
        groups = b"" if self.groups is None else self.groups.tobytes()
        names = "\x1f".join(self.class_names).encode()
        shape = repr((self.image_shape, self.n_turns)).encode()
        for part in (self.digests.tobytes(), self.labels.tobytes(), names, groups, shape):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def gather(self, rows: Tensor) -> Tensor:
        """Gather the images of `rows` (any shape): uint8 (*rows.shape, channels, height_px, width_px).

        The result lies on the device of `images`.
        """
        flat, device = rows.reshape(-1), self.images.device
        out = self.images[send(flat % len(self.images), device)]  # (n, channels, height_px, width_px)
        if self.n_turns > 1:
            turns = flat // len(self.images)
            for quarter in range(1, self.n_turns):
                turned = send((turns == quarter).nonzero().squeeze(1), device)
                out[turned] = torch.rot90(out[turned], quarter, (2, 3))
        return out.reshape(*rows.shape, *self.image_shape)

    def to(self, device: torch.device | str) -> Self:
        """Copy the set with its pixels on `device`."""
        return self._replace(images=self.images.to(device))

    def select(self, class_names: Sequence[str], split: str | None = None) -> Self:
        """Select the named classes and number them 0, 1, … in the order given.

        Rows stay in storage order; if they are contiguous, pixels are not copied.
        """
        if self.n_turns > 1:
            raise DataError(f"{self}: select classes before rotations_as_classes()")
        wanted = {name: label for label, name in enumerate(class_names)}
        for name in wanted:
            if name not in self.class_names:
                raise unknown_name(f"class of {self.name}", name, self.class_names)
        origin = dict(zip(self.class_names, self.origins, strict=True))
        new_label = np.array([wanted.get(name, -1) for name in self.class_names])
        rows = np.flatnonzero(new_label[self.labels] >= 0)
        contiguous = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        where = slice(rows[0], rows[-1] + 1) if contiguous else rows
        return self._replace(
            images=self.images[where],
            labels=new_label[self.labels[rows]],
            class_names=list(wanted),
            groups=None if self.groups is None else self.groups[rows],
            split=split or self.split,
            digests=self.digests[rows],
            origins=[origin[name] for name in wanted],
        )

    def with_min_images(self, n_images: int) -> Self:
        """Select the classes that have at least `n_images` images."""
        keep = [c for c, n in zip(self.class_names, self.class_counts, strict=True) if n >= n_images]
        if not keep:
            raise DataError(f"{self}: no class has {n_images} images; the largest has {self.class_counts.max()}")
        return self.select(keep)

    def rotations_as_classes(self) -> Self:
        """Make each class four: rotated by 0, 90, 180 and 270 degrees (pixels are not copied)."""
        if self.n_turns > 1:
            raise DataError(f"{self}: rotations are already classes")
        if self.image_shape[1] != self.image_shape[2]:
            raise DataError(f"{self}: only square images can be rotated, these are {self.image_shape}")
        return self._replace(
            labels=np.concatenate([self.labels + k * self.n_classes for k in range(QUARTER_TURNS)]),
            class_names=[f"{c}/rot{90 * k:03d}" for k in range(QUARTER_TURNS) for c in self.class_names],
            groups=None if self.groups is None else np.tile(self.groups, QUARTER_TURNS),
            n_turns=QUARTER_TURNS,
            origins=self.origins * QUARTER_TURNS,
        )

    def _replace(self, **changes: object) -> Self:
        fields = dict(
            images=self.images, labels=self.labels, class_names=self.class_names, groups=self.groups,
            name=self.name, split=self.split, digests=self._digests, n_turns=self.n_turns,
            origins=self.origins,
        )  # fmt: skip
        return type(self)(**(fields | changes))  # type: ignore[arg-type]


def digest_images(images: np.ndarray) -> np.ndarray:
    """Compute an 8-byte hash of each image, (n, 8) uint8."""
    hashes = b"".join(hashlib.blake2b(np.ascontiguousarray(i), digest_size=8).digest() for i in images)
    return np.frombuffer(hashes, np.uint8).reshape(len(images), 8)


def check_disjoint(**class_names: Sequence[str]) -> None:
    """Raise `DataError` if two splits share a class; each keyword is the name of a split."""
    splits = list(class_names.items())
    for i, (name_a, a) in enumerate(splits):
        for name_b, b in splits[i + 1 :]:
            shared = sorted(set(a) & set(b))
            if shared:
                raise DataError(
                    f"splits {name_a!r} and {name_b!r} overlap in {len(shared)} classes: {', '.join(shared[:10])}"
                )


def _as_uint8_tensor(images: np.ndarray | Tensor) -> Tensor:
    dtype = images.dtype
    if dtype not in (np.dtype(np.uint8), torch.uint8):
        raise DataError(f"images must be uint8 in 0..255, got {dtype}")
    if images.ndim != 4:
        raise DataError(f"images must be (n, channels, height_px, width_px), got {tuple(images.shape)}")
    if images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS:
        raise DataError(
            f"images are (n, channels, height_px, width_px); {tuple(images.shape)} looks like (n, height_px, width_px, "
            "channels): give images.transpose(0, 3, 1, 2), of a tensor images.permute(0, 3, 1, 2)"
        )
    if isinstance(images, Tensor):
        return images
    return torch.from_numpy(images if images.flags.writeable else images.copy())


def _as_int64(values: Sequence[int] | np.ndarray | Tensor, what: str) -> np.ndarray:
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{what} must be a flat list of integers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _number_groups(groups: Sequence[object] | np.ndarray | Tensor) -> np.ndarray:
    array = np.asarray(groups.cpu() if isinstance(groups, Tensor) else groups)
    if array.ndim != 1:
        raise DataError(f"groups must be a flat list, got shape {array.shape}")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
