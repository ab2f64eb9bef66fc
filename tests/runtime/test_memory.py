"""Memory of freed tensors is reused."""

import ctypes
import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from fewshot.runtime.memory import reuse_freed_memory

if sys.argv[1:] == ["reuse"]:
    reuse_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 18)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_the_next_tensor_finds_its_pages_ready():
    allocation = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(allocation)}

    def page_faults(*arguments: str) -> int:
        command = [sys.executable, "-c", FAULTS, *arguments]
        return int(subprocess.run(command, env=plain, check=True, capture_output=True, text=True).stdout)

    assert page_faults("reuse") < 2_000  # the system may be out of a large page or two, of 512 small ones
    assert page_faults() > 10_000
