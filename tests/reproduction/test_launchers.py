"""The queue of commands and where they run: in turn, pinned, tried once more, stopped with care, submitted."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from fewshot.config.reproduction import LaunchConfig
from fewshot.errors import ConfigError
from fewshot.reproduction.launchers import Job, LocalLauncher, make_launcher, run_jobs
from fewshot.reproduction.launchers.local import share_cores
from fewshot.reproduction.launchers.progress import Progress, read_progress

DO = "import os, sys, pathlib, time, signal\nfolder = pathlib.Path(sys.argv[1])\n"


def make_job(tmp_path: Path, title: str, code: str, needs: str = "") -> Job:
    """A job that runs `code` in a folder of its own, and is done once there is a file `done` in it."""
    folder = tmp_path / title
    folder.mkdir(exist_ok=True)
    script = folder / "job.py"
    script.write_text(DO + code)
    done = folder / "done"
    command = (sys.executable, str(script), str(folder))
    return Job(title, command, folder / "log.txt", folder / "begun", done.exists, lambda: done.read_text(), needs)


FINISH = "(folder / 'done').write_text('well')\n"


def test_jobs_run_in_turn_and_what_is_done_is_not_repeated(tmp_path, capsys):
    a = make_job(tmp_path, "a", "(folder / 'begun').touch()\n" + FINISH)
    b = make_job(tmp_path, "b", "assert (folder.parent / 'a' / 'done').exists()\n" + FINISH, needs="a")
    finished: list[str] = []
    for _ in range(2):
        outcome = run_jobs([a, b], LocalLauncher(1), finish=lambda job: finished.append(job.title))
        assert (outcome.failed, outcome.left) == ([], [])
    assert finished == ["a", "b", "a", "b"]
    assert [line.partition(", output")[0] for line in capsys.readouterr().out.splitlines()] == [
        "a: running", "[1/2] a: well", "b: running", "[2/2] b: well",
        "[1/2] a: well  (had run)", "[2/2] b: well  (had run)",
    ]  # fmt: skip


def test_a_job_that_fails_goes_on_once_more_after_the_others(tmp_path, capsys):
    """The second time it is told to go on, since it had begun."""
    code = "(folder / 'begun').touch()\nassert sys.argv[-1] == '--resume', 'the first time'\n" + FINISH
    jobs = [make_job(tmp_path, "a", code), make_job(tmp_path, "b", FINISH)]
    assert run_jobs(jobs, LocalLauncher(1)).failed == []
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.split(",")[0] for line in told] == [
        "a: running", "a: failed", "b: running", "[1/2] b: well", "a: running", "[2/2] a: well",
    ]  # fmt: skip


def test_what_needs_a_job_that_failed_is_not_started(tmp_path, capsys):
    jobs = [make_job(tmp_path, "a", "sys.exit('no luck')\n"), make_job(tmp_path, "b", FINISH, needs="a")]
    assert run_jobs(jobs, LocalLauncher(1)).failed == jobs
    told = capsys.readouterr().out
    assert "[1/2] a: FAILED twice, exit status 1" in told
    assert "    no luck\n" in told
    assert "[2/2] b: FAILED, not started: a, which it needs, failed\n" in told
    assert not (tmp_path / "b" / "log.txt").exists()


WAIT = "signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / 'saved').touch()))\n(folder / 'begun').touch()\n"
WAIT += "time.sleep(60)\n"


def test_an_interruption_stops_all_jobs_when_they_have_saved(tmp_path, capsys):
    jobs = [make_job(tmp_path, title, WAIT) for title in "abc"]

    def interrupt() -> None:
        while not all((tmp_path / title / "begun").exists() for title in "ab"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    launcher = LocalLauncher(1)
    launcher.n_places, launcher.shares = 2, [launcher.shares[0]] * 2  # also on a machine of one core
    with pytest.raises(SystemExit, match="130"):
        run_jobs(jobs, launcher)
    thread.join()
    assert [(tmp_path / title / "saved").exists() for title in "abc"] == [True, True, False]
    assert "stopped in a; b; the same command goes on from there" in capsys.readouterr().out


def test_time_that_is_up_leaves_the_rest(tmp_path):
    jobs = [make_job(tmp_path, title, FINISH) for title in "ab"]
    outcome = run_jobs(jobs, LocalLauncher(1), deadline=time.monotonic())
    assert outcome.left == jobs
    assert outcome.failed == []


# ---------------------------------------------------------------- on this machine


def test_cores_are_shared_as_equally_as_they_can_be():
    assert share_cores([2, 3, 5, 7, 8], 2) == [[2, 3], [5, 7, 8]]
    assert share_cores([4, 6], 2) == [[4], [6]]
    with pytest.raises(ConfigError, match="n_jobs=3, but this process may use only 2 CPU cores"):
        share_cores([4, 6], 3)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_jobs_that_run_together_have_cores_and_threads_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    code = "import time; time.sleep(0.5)\nseen = [sorted(os.sched_getaffinity(0)), os.environ.get('OMP_NUM_THREADS'), "
    code += "os.environ['CUDA_VISIBLE_DEVICES']]\n(folder / 'done').write_text(repr(seen))\n"
    jobs = [make_job(tmp_path, title, code) for title in "ab"]
    assert run_jobs(jobs, LocalLauncher(2)).failed == []
    first, second = (eval(job.describe()) for job in jobs)
    assert sorted(first[0] + second[0]) == sorted(os.sched_getaffinity(0))
    assert [first[1:], second[1:]] == [[str(len(first[0])), "4"], [str(len(second[0])), "6"]]
    assert run_jobs([alone := make_job(tmp_path, "c", code)], LocalLauncher(1)).failed == []
    assert eval(alone.describe()) == [sorted(os.sched_getaffinity(0)), None, "4,6"]  # as started by hand


# ---------------------------------------------------------------- as jobs of Slurm


def test_jobs_are_submitted_and_say_how_they_ended(tmp_path, capsys):
    """By submitit's own engine, on this machine."""
    pytest.importorskip("submitit")
    config = LaunchConfig(launcher="slurm", slurm={"cluster": "local", "timeout_min": 5})
    launcher = make_launcher(config, str(tmp_path / "slurm"))
    jobs = [make_job(tmp_path, "a", FINISH), make_job(tmp_path, "b", "print('said'); sys.exit(3)\n")]
    assert run_jobs(jobs, launcher).failed == [jobs[1]]
    told = capsys.readouterr().out
    assert re.search(r"\[\d/2\] a: well\n", told)
    assert "b: FAILED twice, exit status 3; the end of" in told
    assert (tmp_path / "b" / "log.txt").read_text() == "said\nsaid\n"


def test_a_job_whose_time_is_up_is_submitted_again_and_goes_on(tmp_path):
    pytest.importorskip("submitit")
    from fewshot.reproduction.launchers.slurm import RunCommand

    begun = tmp_path / "begun"
    command = RunCommand(("train", "--lr", "1"), "log.txt", str(begun))
    assert command.checkpoint().function.command == ["train", "--lr", "1"]
    begun.touch()
    again = command.checkpoint().function
    assert again.command == ["train", "--lr", "1", "--resume"]
    assert again.checkpoint().function.command == again.command


def test_mistakes_of_launching_are_named(tmp_path):
    pytest.importorskip("submitit")
    for options, message in (
        ({"n_jobs": 0}, "n_jobs must be at least 1, got 0"),
        ({"slurm": {"timeout_min": 3}}, "options of slurm without --launcher slurm: timeout_min"),
        ({"launcher": "slurm", "slurm": {"cluster": "local", "timeout_mins": 3}}, "slurm: .*timeout_mins"),
        ({"launcher": "slurm", "slurm": {"cluster": "moon"}}, "slurm: .*moon"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_launcher(LaunchConfig(**options), str(tmp_path))


# ---------------------------------------------------------------- what is told of what runs


def test_progress_is_read_from_the_end_of_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert read_progress(log) == ""
    log.write_text("x" * 9000 + "\rtraining:  38%|███▊      | 190/500 [00:12<00:20, 15.4step/s, loss=0.1]")
    assert read_progress(log) == "step 190 of 500, 00:20 left"
    with log.open("a") as file:
        file.write("\nstep 250: validation 91.20 ± 0.53%\n\rtraining: 100%|███| 500/500 [00:32<00:00, 15.4step/s]")
    assert read_progress(log) == "measuring, validation 91.20%"


def test_a_line_of_what_runs_comes_once_a_minute_in_a_file(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(4)
    progress.end("a: well")
    progress.show({"b": "step 1 of 2"})
    now[0] += 60
    progress.show({"b": "step 2 of 2", "c": ""})
    progress.show({"b": "step 2 of 2"})
    lines = "[1/4] a: well\n[1/4] running: b: step 2 of 2; c: starting\n"
    assert capsys.readouterr().out == lines
