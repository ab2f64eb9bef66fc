"""Memory of this process: measure its peak, and reuse what is freed."""

import ctypes
import os
import re
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
STATUS = Path("/proc/self/status")  # not ru_maxrss, which a child process inherits from its parent


def measure_peak_mib() -> float | None:
    """Measure peak MiB: of the tensors on the GPU if there is one, else of this process including imports.

    Returns None if the system does not record it.
    """
    import torch  # not at the top: the command line imports this module even to print help

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) / 1024 if found else None


def reuse_freed_memory() -> None:
    """Keep the memory of freed tensors in this process for later tensors, in large pages, until the process ends.

    Otherwise the C library returns each large block to the system, which clears the pages of the next one again: that
    took nearly half of a ProtoNet's training step on a CPU (docs/speed.md). Only glibc is changed, not other C
    libraries, nor the memory of a GPU. All commands call this; a program of your own may call it when it starts.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch reads it when it allocates its first tensor
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # take large blocks from the heap too
        mallopt(M_TRIM_THRESHOLD, -1)  # and never shrink the heap
