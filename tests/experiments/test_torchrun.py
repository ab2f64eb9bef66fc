"""Several processes as a user launches them: no warning, no line twice, also over several machines."""

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fewshot import load_dataset

ROOT = Path(__file__).parents[2]
QUICK = [
    "--max_steps", "2", "--episodes_per_step", "2", "--train_n_way", "5", "--val_episodes", "4",
    "--val_every_steps", "1",
    "--test_episodes", "4", "--precision", "float32", "--backbone_options.n_filters", "4",
    "--dataset_options.n_writers", "8", "--val_n_query", "2", "--test_n_query", "2",
]  # fmt: skip


def find_free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def run(command: list[object], **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, cwd=ROOT)


def list_lines(text: str) -> list[str]:
    """The lines of a terminal, without those of the progress bar."""
    lines = (re.sub(r"training: +\d+%\|[^\n]*?(?=step \d+:|$)", "", line.split("\r")[-1]) for line in text.split("\n"))
    return [line.strip() for line in lines if line.strip()]


def test_one_training_on_two_machines_as_the_example_launches_it(tmp_path):
    """With srun and scontrol that play two machines on this one."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/sh\necho localhost\necho localhost\n")
    (tools / "srun").write_text('#!/bin/sh\n"$@" &\n"$@" || exit 1\nwait $!\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    load_dataset("glyphs", "train", n_writers=8)  # is drawn once, and kept for both
    result = run(
        [ROOT / "scripts" / "slurm" / "multi_node.sh", *QUICK, "--run_dir", tmp_path / "run"],
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", PORT=str(find_free_port()), SLURM_NNODES="2",
        SLURM_JOB_ID="7", SLURM_JOB_NODELIST="localhost[1-2]", SLURM_CPUS_PER_TASK="1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = list_lines(result.stdout) + list_lines(result.stderr)
    assert [line for line, n in Counter(lines).items() if n > 1] == []
    assert sum(line.startswith("step ") for line in lines) == 2  # of each step
    assert sum(line.startswith("trained ") for line in lines) == 1
    assert [line for line in lines if "warn" in line.lower() or "OMP_NUM_THREADS" in line] == []


def test_a_mistake_is_said_once(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", 2, "--standalone", "-m", "fewshot"]
    result = run([*launcher, "train", *QUICK, "--dataset=glyph"], TMPDIR=str(tmp_path))
    assert result.returncode != 0
    assert len(re.findall(r"^error: .*Did you mean \S+\?", result.stderr, re.MULTILINE)) == 1, result.stderr
