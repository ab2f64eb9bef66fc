"""The tests that are marked `gpu`, run by pytest on this machine's GPU."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch

from fewshot.errors import DataError
from fewshot.reproduction.benchmarks.gpu.steps import Numbers

FILES = ("tests/test_gpu.py", "tests/runtime/test_foundations.py")
DRY_TESTS = "test_embedding or test_augmentation_is"  # a few, which a CPU passes in seconds


def run_gpu_tests(device: torch.device, out: Path, dry: bool) -> Numbers:
    """How many passed, failed and were skipped, and the names of those that failed; `failed` where any did.

    With `dry` a few of them compare the CPU with itself.
    """
    root = Path(__file__).parents[4]
    if not (root / FILES[0]).exists():
        raise DataError(f"{root} is no copy of the repository: there is no {FILES[0]}")
    report = (out / "tests.xml").resolve()
    command = [sys.executable, "-m", "pytest", *FILES, "-m", "gpu", "-q", "-p", "no:benchmark", f"--junitxml={report}"]
    environment = dict(os.environ)
    if dry:
        command += ["-k", DRY_TESTS]
        environment["FEWSHOT_TEST_DEVICE"] = device.type
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
    (out / "tests.txt").write_text(ran.stdout + ran.stderr)
    return count_tests(report)


def count_tests(report: Path) -> Numbers:
    """The numbers of a JUnit report."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    failures = [
        case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    n_skipped = sum(case.find("skipped") is not None for case in cases)
    n_passed = len(cases) - len(failures) - n_skipped
    numbers: Numbers = {"n_passed": n_passed, "n_failed": len(failures), "n_skipped": n_skipped, "failures": failures}
    if failures or not n_passed:
        numbers["failed"] = f"{len(failures)} of {len(cases)} tests failed, {n_skipped} were skipped; see tests.txt"
    return numbers
