"""Memory of this process: how much it took at most, and how it is reused."""

import ctypes
import os
import re
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
STATUS = Path("/proc/self/status")  # since ru_maxrss of a child begins at its parent's


def measure_peak_mib() -> float | None:
    """Peak MiB: of the tensors on a GPU where there is one, else of this process, imports included.

    None where the system does not count it.
    """
    import torch  # here: the command line imports this module before it knows whether anything is computed

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) / 1024 if found else None


def reuse_freed_memory() -> None:
    """Keep the memory of freed tensors for the next ones, in large pages; for the whole process, until it ends.

    Otherwise the C library gives each large block back to the system when its tensor is freed, and the system clears
    the pages of the next one anew: that was nearly half of a ProtoNet's training step on a CPU (docs/speed.md). Other
    C libraries than glibc keep their ways, and so does the memory of a GPU. The scripts call it; a program of your
    own may, at its beginning.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it with its first tensor
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # large blocks come from the heap too
        mallopt(M_TRIM_THRESHOLD, -1)  # which is never cut back
