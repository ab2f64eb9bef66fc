"""What is recorded with every number so that it can be reproduced: code, versions, command, hardware, weights."""

import hashlib
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fewshot
from fewshot.runtime.plugins import list_loaded_plugins

# Paths whose changes can move a number. Recipes are not among them: the record contains the options themselves.
CODE = (":/fewshot", ":/scripts", ":/setup.cfg", ":(top,exclude)scripts/recipes")


def collect_provenance() -> dict[str, Any]:
    """Collect commit, command line, library versions, hardware and plugins for the header of a record."""
    plugins = {"plugins": list_loaded_plugins()} if list_loaded_plugins() else {}
    return {
        "commit": find_commit(),
        "command": command(),
        "versions": collect_versions(),
        "hardware": describe_hardware(),
        **plugins,
    }


def command() -> str:
    """Format the command line of this process, with paths below the current folder relative to it."""
    program = Path(sys.argv[0])
    if program.name == "fewshot" or program.parts[-2:] == ("fewshot", "__main__.py"):
        program = Path("fewshot")
    return " ".join([str(program), *sys.argv[1:]]).replace(f"{Path.cwd()}{os.sep}", "")


@cache
def collect_versions() -> dict[str, str]:
    """Collect the versions of Python and of the libraries that can change a number."""
    others = {"fewshot": fewshot.__version__, **{name: version(name) for name in ("numpy", "pillow")}}
    for name in ("timm", "torchvision"):
        with suppress(PackageNotFoundError):  # optional libraries
            others[name] = version(name)
    return {"python": platform.python_version(), "torch": torch.__version__, **others}


def describe_hardware() -> str:
    """Describe the GPU, or without one the model of the CPU, and how many CPU cores torch uses."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else (models or [platform.machine()])[0]
    return f"{device}, {torch.get_num_threads()} of {os.cpu_count()} CPU cores"


@cache
def find_commit() -> str:
    """Find the git commit of this code, with + if the code has changed since; without git, the version of the package.

    The environment variable `FEWSHOT_COMMIT` names the commit of a copy of the code without its repository.
    """
    here = Path(__file__).parents[1]  # the package

    def run_git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(run_git("rev-parse", "--show-toplevel")) != here.parent:
            raise FileNotFoundError("the package is installed inside another repository")
        return run_git("rev-parse", "--short=12", "HEAD") + (
            "+" if run_git("status", "--porcelain", "-uno", "--", *CODE) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FEWSHOT_COMMIT") or f"fewshot {fewshot.__version__}"


def hash_weights(module: nn.Module) -> str:
    """Compute a hash of every parameter and buffer in the state dict."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
