"""Where a number comes from: code, versions, command, weights."""

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

# What decides a number besides the options that a record holds; recipes are options, and results are no code.
CODE = (":/fewshot", ":/scripts", ":/setup.cfg", ":(top,exclude)scripts/recipes")


def collect_provenance() -> dict[str, Any]:
    """Commit, command line, library versions, hardware, and where there are any plugins: for the header of a record."""
    plugins = {"plugins": list_loaded_plugins()} if list_loaded_plugins() else {}
    return {
        "commit": find_commit(),
        "command": command(),
        "versions": collect_versions(),
        "hardware": describe_hardware(),
        **plugins,
    }


def command() -> str:
    """The command line, with paths below the current folder relative to it; of the installed command by its name."""
    program = Path(sys.argv[0])
    if program.name == "fewshot" or program.parts[-2:] == ("fewshot", "__main__.py"):
        program = Path("fewshot")
    return " ".join([str(program), *sys.argv[1:]]).replace(f"{Path.cwd()}{os.sep}", "")


@cache
def collect_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can move a number."""
    others = {"fewshot": fewshot.__version__, **{name: version(name) for name in ("numpy", "pillow")}}
    for name in ("timm", "torchvision"):
        with suppress(PackageNotFoundError):  # not everyone needs them
            others[name] = version(name)
    return {"python": platform.python_version(), "torch": torch.__version__, **others}


def describe_hardware() -> str:
    """The GPU if there is one, else the CPU's model, and how many of the CPU's cores torch uses."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else (models or [platform.machine()])[0]
    return f"{device}, {torch.get_num_threads()} of {os.cpu_count()} CPU cores"


@cache
def find_commit() -> str:
    """The git commit of this code, with + where the code differs from it; without git the package's version.

    `FEWSHOT_COMMIT` names the commit of a copy of the code that travels without its repository.
    """
    here = Path(__file__).parents[1]  # the package

    def run_git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(run_git("rev-parse", "--show-toplevel")) != here.parent:
            raise FileNotFoundError("installed inside somebody else's repository")
        return run_git("rev-parse", "--short=12", "HEAD") + (
            "+" if run_git("status", "--porcelain", "-uno", "--", *CODE) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FEWSHOT_COMMIT") or f"fewshot {fewshot.__version__}"


def hash_weights(module: nn.Module) -> str:
    """Hash of every parameter and buffer in the state dict."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
