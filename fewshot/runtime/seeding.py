"""Random generators that depend on `(seed, *names)` alone, for instance `(seed, "augmentation", 41)`.

Only `fork` changes torch's global generators, because `nn.init` and dropout use no others; it restores them afterwards.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: object) -> int:
    """Derive a 63-bit seed from `seed` and the names; it is the same on every machine."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Create a torch generator for `(seed, *names)`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """Create a numpy generator for `(seed, *names)`."""
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def fork(seed: int, *names: object) -> Iterator[None]:
    """Within the block torch's global generators are seeded by `(seed, *names)`; afterwards they are restored."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.random.manual_seed(derive(seed, *names))
        yield


def reseed(seed: int, *names: object) -> None:
    """Within a `fork` block: seed torch's global generators again, by `(seed, *names)`."""
    torch.random.manual_seed(derive(seed, *names))
