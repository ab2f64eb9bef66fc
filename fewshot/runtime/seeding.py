"""Randomness is an argument: generators made from `(seed, *names)`.

The global torch generator is touched in one place only, `fork`, because `nn.init` and dropout
read nothing else; it is put back as it was afterwards.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on `seed` and every name, the same on any machine."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for `(seed, *names)`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """A numpy generator for `(seed, *names)`."""
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def fork(seed: int, *names: object) -> Iterator[None]:
    """Within the block the global torch generators are seeded by `(seed, *names)`."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.random.manual_seed(derive(seed, *names))
        yield


def reseed(seed: int, *names: object) -> None:
    """Within a `fork` block: start the global torch generators anew from `(seed, *names)`."""
    torch.random.manual_seed(derive(seed, *names))
