"""Peak memory."""

import re
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")  # since ru_maxrss of a child begins at its parent's


def peak_mib_so_far() -> float | None:
    """Peak MiB: of the tensors on a GPU where there is one, else of this process, imports included.

    None where the system does not count it.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) / 1024 if found else None
