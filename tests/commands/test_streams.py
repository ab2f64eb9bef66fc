"""Standard output that cannot be written ends a command with one sentence, or silently where its reader has left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


def run(*words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "fewshot", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [("list", "methods"), ("--help",)])
def test_a_full_disk_behind_standard_output_is_one_sentence(words):
    with FULL.open("w") as full:
        done = run(*words, stdout=full)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_a_reader_that_has_left_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = run("list", "methods", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "data").mkdir()
    words = ("--dataset", "glyphs", "--run_dir", str(tmp_path / "run"), "--max_steps", "1")
    done = run("train", *words, stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: the cache folder {tmp_path}/file/cache cannot be written")
