"""Evaluation mode while a network answers; the mode of each of its modules as it was afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_holders: dict[int, tuple[int, dict[nn.Module, bool]]] = {}  # by the id of a module: blocks, and the modes before


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within the block `module` and its modules are in evaluation mode.

    Blocks may overlap, in several threads too: the mode comes back when the last one ends, so that no thread computes
    batch statistics in the middle of another one's evaluation.
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
