"""`FeatureSet`: features of the images of an `ImageSet`, with the labels of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.errors import DataError
from fewshot.runtime.precision import Resolved
from fewshot.runtime.transfer import send


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features, or feature maps, of images of an `ImageSet`, addressed by the image set's own row numbers.

    Labels, names, groups and the fingerprint are the image set's, for all of its rows.

    Args:
        imageset: the images.
        values: features (n, D), or maps (n, c, h, w).
        rows: which rows of `imageset` these are of, (n,), each once; None: all of them, in order.
        encoder: hash of the weights that made them, which `evaluate` compares with the method's; None: not known.
        precision: what they were computed in, for the header of records; None: not known.

    Raises:
        DataError: where `values` and `rows` differ in number, `values` are no features, or `rows` are no rows of
            `imageset`.
    """

    imageset: ImageSet
    values: Tensor
    rows: Tensor | None = None
    encoder: str | None = None
    precision: Resolved | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor) or not self.values.is_floating_point() or self.values.ndim not in (2, 4):
            kind = f"{self.values.dtype} {tuple(self.values.shape)}" if isinstance(self.values, Tensor) else "no tensor"
            raise DataError(f"features are a tensor of floating-point numbers (n, D) or (n, c, h, w), got {kind}")
        if self.rows is not None and (self.rows.dtype != torch.int64 or not self._are_rows(self.rows)):
            raise DataError(f"rows are numbers of rows of {self.imageset}, 0 to {len(self.imageset) - 1}, int64")
        n_rows = len(self.imageset) if self.rows is None else len(self.rows)
        if len(self.values) != n_rows:
            raise DataError(f"{self}: {len(self.values)} features for {n_rows} rows")

    def _are_rows(self, rows: Tensor) -> bool:
        return not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < len(self.imageset))

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"FeatureSet({len(self)} of shape {tuple(self.values.shape[1:])}, of {self.imageset})"

    @property
    def labels(self) -> np.ndarray:
        """The class of each row of the image set, (n_images,)."""
        return self.imageset.labels

    @property
    def class_names(self) -> Sequence[str]:
        """The class names of the image set."""
        return self.imageset.class_names

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each row of the image set, (n_images,), or None."""
        return self.imageset.groups

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the image set."""
        return self.imageset.fingerprint

    def gather(self, rows: Tensor) -> Tensor:
        """The features of `rows` (any shape) of the image set: (*rows.shape, …), on the device of `values`.

        Raises `DataError` for a row whose features are not held.
        """
        if self.rows is not None:
            at = self._places[rows]
            if (at < 0).any():
                raise DataError(f"{self} does not hold row {int(rows[at < 0][0])}")
            rows = at
        return self.values[send(rows, self.values.device)]

    @cached_property
    def _places(self) -> Tensor:
        """The position of each row of the image set in `values`, (n_images,); -1 if its features are not held."""
        places = torch.full((len(self.imageset),), -1)
        places[self.rows] = torch.arange(len(self.values))
        return places
