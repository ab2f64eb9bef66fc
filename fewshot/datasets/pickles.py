"""Read pickled dictionaries of arrays, as old data sets are published, without running code from them."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.errors import DataError
from fewshot.runtime.files import read_regular

LARGEST_BYTES = 1 << 33
# Everything that a pickled array needs; some published files were written by Python 2 and an early numpy.
_RECONSTRUCT = np.empty(0).__reduce__()[0]  # makes an empty array; its module differs between versions of numpy
_FROM_BUFFER = np.empty(0).__reduce_ex__(5)[0]  # used by protocol 5
_SCALAR = np.int64(0).__reduce__()[0]
HARMLESS = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, coding: text.encode({"latin1": "latin1"}[coding]),  # bytes, by Python 3 for 2
}


class ArraysOnly(pickle.Unpickler):
    """Unpickles arrays and plain Python values; refuses everything else, since it could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which arrays do not need")
        return HARMLESS[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """Read the dictionary that a pickle file holds.

    Raises:
        DataError: the file is damaged, contains anything but arrays and plain values, or is no dictionary.
    """
    return unpickle(read_regular(path, str(path), LARGEST_BYTES, "a pickle of arrays"), path)


def unpickle(content: bytes, path: Path) -> dict[str, Any]:
    """Unpickle the bytes of the file `path`, as `read_pickle` does."""
    try:
        value = ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{path}: refused or damaged pickle: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a dictionary, got {type(value).__name__}")
    return value
