"""Put a network into evaluation mode for a while, and restore the mode of each of its modules afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_holders: dict[int, tuple[int, dict[nn.Module, bool]]] = {}  # id of a module: number of open blocks, previous modes


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within the block `module` and its submodules are in evaluation mode.

    Blocks may overlap, also in several threads. The modes are restored when the last block ends; otherwise one thread
    would switch to batch statistics during the evaluation of another.
    """
    with _lock:
        blocks, modes = _holders.get(id(module), (0, {}))
        if not blocks:
            modes = {part: part.training for part in module.modules()}
            module.eval()
        _holders[id(module)] = blocks + 1, modes
    try:
        yield
    finally:
        with _lock:
            blocks, modes = _holders.pop(id(module))
            if blocks > 1:
                _holders[id(module)] = blocks - 1, modes
            elif any(modes.values()):
                module.train(modes[module])
                for part, training in modes.items():
                    part.training = training
