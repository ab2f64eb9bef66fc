"""What setup.cfg promises, and what the gate makes of it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lowest():
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_requirement_states_a_lowest_version(lowest):
    found = lowest.read_lowest(ROOT / "setup.cfg")
    assert {"torch", "torchvision", "jsonargparse", "peft", "pytest"} <= found.keys()
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in found.values())


@pytest.mark.parametrize(
    ("requirement", "refused"),
    [("torchvision", "'torchvision' does not read"), ("torch>=2.4,<3", "does not read"), ("torch>=2.4", "two lowest")],
)
def test_a_requirement_without_one_lowest_version_is_refused(lowest, tmp_path, requirement, refused):
    path = tmp_path / "setup.cfg"
    path.write_text(
        f"[options]\ninstall_requires =\n    torch>=2.6\n    {requirement}\n"
        "[options.extras_require]\npretrained = a>=1.0\nfinetune = peft[x]>=0.14\n"
        "export = onnx>=1.18\nserve = fastapi>=0.115\ntest =\n    pytest>=8.0\n"
    )
    with pytest.raises(ValueError, match=refused):
        lowest.read_lowest(path)
    path.write_text(path.read_text().replace(f"    {requirement}\n", ""))
    assert lowest.read_lowest(path) == {
        "torch": "2.6",
        "a": "1.0",
        "peft": "0.14",
        "onnx": "1.18",
        "fastapi": "0.115",
        "pytest": "8.0",
    }


def test_a_folder_of_the_package_s_name_beside_you_does_not_hide_it(tmp_path):
    (tmp_path / "fewshot" / "fewshot").mkdir(parents=True)  # a clone, seen from the folder above it
    ran = subprocess.run(
        [sys.executable, "-c", "import fewshot; print(fewshot.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    assert Path(ran.stdout.strip()).name == "__init__.py", ran.stdout + ran.stderr
