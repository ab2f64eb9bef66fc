"""Where a number comes from: code, versions, command, weights."""

import hashlib
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn


def provenance() -> dict[str, Any]:
    """Commit, command line and library versions, for the header of a record."""
    return {"commit": commit(), "command": " ".join(sys.argv), "versions": versions()}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can move a number."""
    others = {name: version(name) for name in ("fewshot", "numpy", "pillow")}
    return {"python": platform.python_version(), "torch": torch.__version__, **others}


@cache
def commit() -> str:
    """The git commit of this code, with + where files differ from it; without git the package's version."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            raise FileNotFoundError("installed inside somebody else's repository")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"fewshot {version('fewshot')}"


def weights_hash(module: nn.Module) -> str:
    """Hash of every parameter and buffer in the state dict."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
