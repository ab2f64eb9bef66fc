"""Runs of all recipes: made, kept, resumed or refused; and the tables that end up in a file."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import made_up_header
from PIL import Image

from fewshot import Records
from fewshot.errors import ConfigError, DataError, UnknownNameError
from fewshot.evaluation import report
from fewshot.evaluation.records import EpisodeRecord
from fewshot.reproduction.heads import fill_expected
from fewshot.reproduction.recipes import find_runs, select_measuring
from fewshot.reproduction.results import Result
from fewshot.reproduction.runner import format_section, run_all
from fewshot.reproduction.runs import Run
from fewshot.runtime.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[2]


def made_up(accuracies: list[float], n_shot: int = 1, **changes: object) -> Records:
    header = made_up_header(len(accuracies), spec={"n_way": 5, "n_shot": n_shot, "n_query": 15}, **changes)
    return Records(header, [EpisodeRecord(i, a, 0.1, 5, 5, 0, 0.0) for i, a in enumerate(accuracies)])


# ---------------------------------------------------------------- the file


def test_only_what_stands_between_the_lines_is_replaced(tmp_path):
    file = tmp_path / "RESULTS.md"
    before = "# Résultats\r\n\n<!-- a: begin -->\nold\n<!-- a: end -->\n\n<!-- b: begin -->\nkeep\n<!-- b: end -->  "
    file.write_bytes(before.encode())
    file.chmod(0o640)
    report.write_section(file, "a", "unused", "new\ntable")
    assert file.read_bytes().decode() == before.replace("old", "new\ntable")
    assert file.stat().st_mode & 0o777 == 0o640
    report.write_section(file, "a", "unused", "old")
    assert file.read_bytes().decode() == before
    assert [path.name for path in tmp_path.iterdir()] == ["RESULTS.md"]


def test_a_new_page_has_a_title_and_a_further_section_is_added_at_its_end(tmp_path):
    file = tmp_path / "docs" / "results" / "toy.md"
    report.write_section(file, "a", "All", "new")
    page = "# All\n\n<!-- a: begin -->\nnew\n<!-- a: end -->\n"
    assert file.read_text() == page
    report.write_section(file, "b", "Others", "newer")
    assert file.read_text() == page + "\n## Others\n\n<!-- b: begin -->\nnewer\n<!-- b: end -->\n"


@pytest.mark.parametrize(
    "text", ["<!-- a: begin -->\n", "<!-- a: end -->\n<!-- a: begin -->\n", "<!-- a: begin -->\n<!-- a: end -->\n" * 2]
)
def test_lines_that_are_no_pair_are_refused(tmp_path, text):
    file = tmp_path / "RESULTS.md"
    file.write_text(text)
    with pytest.raises(DataError, match="once each, in this order"):
        report.write_section(file, "a", "All", "new")
    assert file.read_text() == text


# ---------------------------------------------------------------- runs, with scripts that only note how they are called

FAKE = """
import shutil, sys
from pathlib import Path
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run = Path(option["--run_dir"])
with (Path(__file__).parent / "calls.txt").open("a") as calls:
    print(Path(__file__).stem, run.name, "resume" if sys.argv[-1] == "--resume" else "new",
          Path(option.get("--pretrained_run", "-")).name, option["--seed"], file=calls)
prepared = Path(__file__).parent / "prepared" / run.name
if not prepared.exists():
    print("first line")
    print("cannot do it", file=sys.stderr)
    raise SystemExit(3)
shutil.copytree(prepared, run, dirs_exist_ok=True)
"""


HISTORY = [[9, 12.34, 0.1234567, 0.0123456]]


def prepare(run: Run, prepared: Path, accuracy: float, steps: int, seconds: float) -> None:
    """What a run of the recipe leaves behind, in the folder `prepared`."""
    folder = type(run.folder)(prepared / run.folder.path.name)
    folder.claim(run.config, resume=False)
    save_checkpoint(folder.last, {"progress": [steps, steps, 0.5, seconds], "history": HISTORY, "w": torch.zeros(1)})
    for row in {run.own_row, *([] if run.is_pretrain else ["untrained", "raw pixels"])}:
        for shot in (1, 5):
            value = accuracy if row == run.own_row else 0.2
            made_up([value, value], shot, config={"a": 1}).write(
                folder.records(f"{row}-5-way-{shot}-shot".replace(" ", "-"))
            )


@pytest.fixture
def project(tmp_path):
    """scripts/ with two fake scripts, three recipes, and the folders that their runs of seed 2 would make."""
    scripts, recipes = tmp_path / "scripts", tmp_path / "scripts" / "recipes" / "toy"
    recipes.mkdir(parents=True)
    for name in ("pretrain.py", "train_episodic.py"):
        (scripts / name).write_text(FAKE)
    (recipes / "baseline.yaml").write_text("method: protonet\nmax_steps: 0\npretrained_run: runs/toy/pretrain\n")
    (recipes / "protonet.yaml").write_text("max_steps: 9\nepisodes_per_step: 4\n")
    (recipes / "pretrain.yaml").write_text("kind: pretrain\nmax_steps: 30\nbatch_size: 64\nrun_dir: elsewhere\n")
    found = find_runs(recipes, tmp_path / "out", [2])
    for run, *facts in zip(found, (0.8, 0.4, 0.6), (30, 0, 9), (114.0, 0.0, 24.0), strict=True):
        prepare(run, scripts / "prepared", *facts)
    return scripts, recipes, found


def calls(scripts: Path) -> list[str]:
    file = scripts / "calls.txt"
    return file.read_text().splitlines() if file.exists() else []


def test_runs_in_order_once_and_makes_the_rows(project, capsys):
    scripts, recipes, found = project
    assert run_all(found, scripts, scripts / "kept") == []
    expected = [
        "pretrain pretrain-seed2 new - 2",
        "train_episodic baseline-seed2 new pretrain-seed2 2",
        "train_episodic protonet-seed2 new - 2",
    ]
    assert calls(scripts) == expected
    assert found[1].folder.path == recipes.parents[2] / "out" / "toy" / "baseline-seed2"
    assert (
        "pretrain, seed 2: 1.9 min  5-way 1-shot 80.00 ± 0.00  5-way 5-shot 80.00 ± 0.00\n" in capsys.readouterr().out
    )
    assert run_all(find_runs(recipes, scripts.parent / "out", [2]), scripts, scripts / "kept") == []
    assert calls(scripts) == expected  # nothing is repeated
    assert capsys.readouterr().out.count("(had run)") == 3
    kept = sorted((scripts / "kept").iterdir())
    assert [path.name for path in kept] == ["baseline-seed2.json", "pretrain-seed2.json", "protonet-seed2.json"]
    results = {path.name.partition("-")[0]: Result.read(path) for path in kept}
    assert results["baseline"].facts["stages"] == [["1,920 images", 1.9], ["", 0.0]]
    assert results["protonet"].facts["stages"] == [["36 episodes", 0.4]]
    assert results["protonet"].facts["history"] == [[9, 12.3, 0.12346, 0.01235]]
    assert {row: scores[1].mean for row, scores in results["protonet"].records.items()} == {
        "trained": 0.6, "untrained": 0.2, "raw pixels": 0.2,
    }  # fmt: skip
    header = results["protonet"].records["trained"][0].header
    assert header.command.startswith("python scripts/train_episodic.py --config ")
    assert header.command.endswith(" --run_dir runs/reproduce/toy/protonet-seed2 --seed 2")
    assert results["baseline"].facts["config"]["pretrained_run"] == "runs/reproduce/toy/pretrain-seed2"
    assert all(str(scripts.parent) not in path.read_text() for path in kept)  # nothing says where this machine has them


def test_rows_run_after_their_training_and_are_found_as_runs_of_their_own_recipes_were(project):
    """A row's run lies where the run of a recipe of that name lay, of the same configuration: it is not repeated."""
    scripts, recipes, found = project
    run_all(found, scripts, scripts / "kept")
    done = calls(scripts)
    (recipes / "baseline.yaml").unlink()
    with (recipes / "pretrain.yaml").open("a") as file:
        file.write("rows:\n  baseline: {method: protonet}\n  nearest: {}\n")
    with pytest.raises(UnknownNameError, match=r"recipe .*toy 'elsewhere'"):
        find_runs(recipes, scripts.parent / "out", [2])
    text = (recipes / "pretrain.yaml").read_text()
    (recipes / "pretrain.yaml").write_text(text.replace("run_dir: elsewhere", "run_dir: runs/toy/pretrain"))
    again = find_runs(recipes, scripts.parent / "out", [2])
    assert [run.name for run in again] == ["pretrain", "baseline", "nearest", "protonet"]
    assert [run.complete for run in again] == [True, True, False, True]
    nearest = again[2]
    prepare(nearest, scripts / "prepared", 0.8, 0, 0.0)
    assert run_all(again, scripts, scripts / "kept") == []
    assert calls(scripts) == [*done, "train_episodic nearest-seed2 new pretrain-seed2 2"]
    assert nearest.arguments[:4] == ("--config", str(recipes / "pretrain.yaml"), "--row", "nearest")
    kept = Result.read(scripts / "kept" / "nearest-seed2.json")
    assert kept.facts["stages"] == [["1,920 images", 1.9], ["", 0.0]]
    assert "pretrain.yaml --row nearest --run_dir runs/reproduce" in kept.records["trained"][0].header.command


def test_two_runs_of_one_name_are_refused(project):
    _, recipes, _ = project
    (recipes / "frozen.yaml").write_text("kind: frozen\nrows: {baseline: {}}\n")
    with pytest.raises(ConfigError, match=r"baseline.yaml and .*frozen.yaml both have a run called baseline: rename"):
        find_runs(recipes, Path("out"))


def test_an_interrupted_run_is_resumed(project):
    scripts, _, found = project
    run_all(found, scripts, scripts / "kept")
    records = found[2].records_file("untrained", "5-way 5-shot")
    whole = records.read_text()
    for text in ("", whole[: whole.rindex("{")]):  # no header; a record is missing
        records.write_text(text)
        assert run_all(found, scripts, scripts / "kept") == []
        assert calls(scripts)[-1] == "train_episodic protonet-seed2 resume - 2"
        assert records.read_text() == whole
    records.unlink()
    assert run_all(found, scripts, scripts / "kept") == []
    assert len(calls(scripts)) == 6


def test_a_failed_run_is_reported_and_the_others_go_on(project, capsys):
    scripts, _, found = project
    (scripts / "prepared" / "baseline-seed2").rename(scripts / "gone")
    assert run_all(found, scripts, scripts / "kept") == [found[1]]
    printed = capsys.readouterr().out
    log = found[1].folder.path / "log.txt"
    assert f"[3/3] baseline, seed 2: FAILED twice, exit status 3; the end of {log}:" in printed
    assert "baseline, seed 2: failed, tried once more: exit status 3" in printed
    assert [call.split()[1] for call in calls(scripts)].count("baseline-seed2") == 2
    assert "    cannot do it\n" in printed
    assert "protonet, seed 2: 0.4 min" in printed
    (scripts / "prepared" / "protonet-seed2" / "records" / "trained-5-way-1-shot.jsonl").unlink()
    found[2].records_file("trained", "5-way 1-shot").unlink()
    assert run_all(found[2:], scripts, scripts / "kept") == [found[2]]  # status 0 without its records
    assert "protonet, seed 2: FAILED twice, exit status 0" in capsys.readouterr().out


def test_an_edited_recipe_stops_before_anything_runs(project):
    scripts, recipes, found = project
    run_all(found, scripts, scripts / "kept")
    (recipes / "protonet.yaml").write_text("max_steps: 9\nepisodes_per_step: 4\nlr: 0.5\n")
    (recipes / "another.yaml").write_text("max_steps: 3\n")
    folder = found[2].folder.path
    advice = f"there, 0.5 now): the recipe protonet was changed after it ran; delete {folder}, or choose another --out"
    with pytest.raises(ConfigError, match=re.escape(advice)):
        run_all(find_runs(recipes, scripts.parent / "out", [2]), scripts, scripts / "kept")
    assert len(calls(scripts)) == 3


def test_a_run_whose_stage_one_is_gone_is_not_used(project):
    scripts, _, found = project
    run_all(found, scripts, scripts / "kept")
    (found[0].folder.config).unlink()
    with pytest.raises(
        ConfigError, match=r"baseline has run, but .*pretrain-seed2 that it started from is gone: delete"
    ):
        run_all(found, scripts, scripts / "kept")


def test_named_recipes_bring_those_they_start_from(project):
    _, recipes, _ = project
    assert [run.name for run in find_runs(recipes, Path("out"), names=["baseline"])] == ["pretrain", "baseline"]
    with pytest.raises(UnknownNameError, match=r"'protonett'. Did you mean 'protonet'\?"):
        find_runs(recipes, Path("out"), names=["protonett"])
    with pytest.raises(ConfigError, match=r"there is no recipe \(\*.yaml\) in .*nothing"):
        find_runs(recipes.parent / "nothing", Path("out"))


def test_cells_choose_runs_and_what_they_start_from(project):
    _, recipes, _ = project
    (recipes / "baseline.yaml").write_text("max_steps: 0\npretrained_run: runs/toy/pretrain\ntest_n_way: [20]\n")
    (recipes / "protonet_20way.yaml").write_text("row: protonet\ntest_n_way: [20]\n")
    runs = find_runs(recipes, Path("out"), [0, 1])

    def chosen(*cells: str) -> list[tuple[str, int]]:
        return [(run.name, run.config.seed) for run in select_measuring(runs, cells)]

    assert chosen() == [(run.name, run.config.seed) for run in runs]
    assert chosen("20w5s") == [(name, seed) for seed in (0, 1) for name in ("pretrain", "baseline", "protonet_20way")]
    assert chosen("5w1s") == [(name, seed) for seed in (0, 1) for name in ("pretrain", "protonet")]
    with pytest.raises(ConfigError, match="no recipe measures 5w2s; there are 20w1s, 20w5s, 5w1s, 5w5s"):
        select_measuring(runs, ["5w2s"])


def test_a_row_name_chooses_its_recipes_of_all_ways(project):
    _, recipes, _ = project
    (recipes / "protonet_20way.yaml").write_text("row: protonet\ntest_n_way: [20]\n")
    named = find_runs(recipes, Path("out"), names=["protonet"])
    assert [run.name for run in named] == ["protonet", "protonet_20way"]
    assert [run.name for run in find_runs(recipes, Path("out"), names=["protonet_20way"])] == ["protonet_20way"]


def test_recipes_that_cannot_be_run_or_compared_are_refused(project, capsys):
    _, recipes, _ = project
    (recipes / "other.yaml").write_text("test_n_query: 2\n")
    with pytest.raises(ConfigError, match=r"pretrain and other measure .* \(test_n_query: 15 and 2\)"):
        find_runs(recipes, Path("out"))
    (recipes / "other.yaml").write_text("test_n_query: 2\ntest_n_shot: [3]\n")
    assert "other" in {run.name for run in find_runs(recipes, Path("out"))}  # no cell of the others
    (recipes / "other.yaml").write_text("pretrained_run: runs/toy/other\n")
    with pytest.raises(ConfigError, match="recipes start from each other in a circle: other -> other"):
        find_runs(recipes, Path("out"))
    (recipes / "other.yaml").write_text("max_step: 3\n")
    with pytest.raises(ConfigError, match=r"other.yaml is no valid recipe"):
        find_runs(recipes, Path("out"))
    assert "Did you mean max_steps?" in capsys.readouterr().err


# ---------------------------------------------------------------- as a user runs it

TINY = "backbone_options: {n_filters: 4}\nval_n_way: 2\nval_n_query: 2\nval_episodes: 5\ntest_n_way: [2]\n"
TINY += "test_n_shot: [1]\ntest_n_query: 2\ntest_episodes: 10\ndataset: folder\nprecision: float32\n"


def test_interrupted_and_started_again_it_makes_the_table(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in "ab":
            (tmp_path / "data" / split / f"{split}-{name}").mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 255, (16, 16), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / f"{split}-{name}" / f"{i}.png")
    recipes = tmp_path / "scripts" / "recipes" / "toy"
    recipes.mkdir(parents=True)
    for name in ("reproduce.py", "pretrain.py", "train_episodic.py"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    tiny = f"{TINY}data_root: {tmp_path / 'data'}\ndataset_options: {{size_px: 16, channels: 1}}\n"
    (recipes / "protonet.yaml").write_text(
        tiny + "max_steps: 2\ntrain_n_way: 2\ntrain_n_query: 2\npretrained_run: runs/toy/pretrain\n"
    )
    stage_one = tmp_path / "out" / "toy" / "pretrain-seed0"
    (recipes / "pretrain.yaml").write_text(
        tiny + "kind: pretrain\nrow: classifier-baseline\nmax_steps: 100000\nbatch_size: 4\ncheckpoint_every_steps: 5\n"
    )

    ended = threading.Event()

    def interrupt() -> None:
        while not (stage_one / "last.safetensors").exists() and not ended.wait(0.02):
            pass
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(SystemExit, match="130"):
            run_all(find_runs(recipes, Path("out")), tmp_path / "scripts", tmp_path / "kept")
    finally:
        ended.set()
        thread.join()
    assert "stopped in pretrain, seed 0; the same command goes on from there" in capsys.readouterr().out
    log = stage_one / "log.txt"
    step = int(re.search(r"stopped at step (\d+); continue the run with --resume", log.read_text())[1])
    for file in (recipes / "pretrain.yaml", stage_one / "config.json"):  # it ends a step later
        file.write_text(file.read_text().replace("100000", str(step + 1)))
    command = [sys.executable, "scripts/reproduce.py", "toy", "--out", "out", "--publish"]
    again = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert again.returncode == 0, again.stderr + log.read_text()
    assert f"{step + 1} steps in" in log.read_text()
    written = (tmp_path / "docs" / "results" / "toy.md").read_text()
    for name in ("protonet", "classifier-baseline", "untrained protonet", "raw pixels"):
        assert re.search(rf"\n\| {name} +\| \d+\.\d\d ± \d+\.\d\d +\| 1 ", written), name
    for name in ("classifier-baseline", "untrained protonet", "raw pixels"):
        assert re.search(rf"\n\| {name} +\| [+−]\d+\.\d\d ± \d+\.\d\d +\|\n", written), name
    assert re.search(r"\n\| protonet +\| 0 +\| .* images \+ 2 episodes \| \d+\.\d \+ 0\.\d ", written)
    assert "Command: `python scripts/reproduce.py toy`" in written
    assert written.split("begin -->\n")[1].split("<!--")[0].strip() in again.stdout
    kept = tmp_path / "results" / "toy" / "protonet-seed0.json"
    assert str(tmp_path) not in kept.read_text().replace(str(tmp_path / "data"), "")
    assert re.search(r"python scripts/train_episodic.py --config scripts/recipes/toy/protonet.yaml", kept.read_text())


def test_a_budget_stops_a_run_and_leaves_the_others(project, capsys):
    scripts, _, found = project
    slow = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\ntime.sleep(60)\n"
    (scripts / "pretrain.py").write_text(slow)
    assert run_all(found, scripts, scripts / "kept", budget_minutes=1 / 60) == []
    left = "before: pretrain, seed 2 (begun); baseline, seed 2; protonet, seed 2. The same command goes on from there"
    assert left in capsys.readouterr().out
    assert calls(scripts) == []
    assert not (scripts / "kept").exists()


def test_a_result_names_the_steps_after_which_the_optimizer_began_anew(project):
    _, _, (stage_one, *_) = project
    state = {"progress": [30, 20, 0.5, 60.0], "history": [], "restarts": [1200, 2400]}
    save_checkpoint(stage_one.folder.last, state)
    assert stage_one.stages == [
        (f"{30 * stage_one.config.batch_size:,} images (optimizer anew after step 1,200, 2,400)", 1.0)
    ]


def test_trainings_alone_run_first_and_are_measured_later(project, capsys):
    scripts, _, found = project
    records = scripts / "prepared" / "protonet-seed2" / "records"
    records.rename(scripts / "later")

    def prepare_progress(name: str, *points: tuple[int, float, float]) -> None:
        """`points`: step, mean and half-width of each validation; the last is the last step."""
        state = {"progress": [points[-1][0], 0, 0.5, 6.0], "history": [[step, 2.0, *of] for step, *of in points]}
        save_checkpoint(scripts / "prepared" / name / "last.safetensors", state)

    prepare_progress("pretrain-seed2", (10, 0.4, 0.02), (30, 0.3, 0.02))
    for step in (8, 9):
        prepare_progress("protonet-seed2", (step, 0.1234567, 0.0123456))
        failed = run_all(found, scripts, scripts / "kept", train_only=True)
        assert failed == ([found[2]] if step == 8 else [])  # 8 of 9 steps are no training
    printed = capsys.readouterr().out
    assert "pretrain, seed 2: 0.1 min  validation 40.00 ± 2.00 at step 10" in printed
    assert "protonet, seed 2: 0.1 min  validation 12.35 ± 1.23 at step 9" in printed
    assert not (scripts / "kept").exists()
    assert [call.split()[1:3] for call in calls(scripts)] == [
        ["pretrain-seed2", "new"],
        *(["protonet-seed2", word] for word in ("new", "resume", "resume")),
    ]  # baseline, which is not trained, is not run
    (scripts / "later").rename(records)
    assert run_all(found, scripts, scripts / "kept") == []
    assert [call.split()[1:3] for call in calls(scripts)[4:]] == [
        ["baseline-seed2", "new"],
        ["protonet-seed2", "resume"],
    ]


def test_a_row_of_a_changed_recipe_is_not_run(project, tmp_path, capsys):
    scripts, recipes, found = project
    run_all(found, scripts, scripts / "kept")
    text = format_section(recipes, scripts / "kept", tmp_path / "none.yaml")
    assert re.search(r"\n\| protonet +\| 60.00 ± 0.00 +\| 60.00 ± 0.00 +\| 1 ", text)
    assert "Command: `python scripts/reproduce.py toy --seeds 2`" in text
    capsys.readouterr()
    (recipes / "protonet.yaml").write_text("max_steps: 10\nepisodes_per_step: 4\n")
    text = format_section(recipes, scripts / "kept", tmp_path / "none.yaml")
    assert re.search(r"\n\| protonet +\| not run +\| not run +\| – ", text)
    reason = "left out of the tables: protonet, seed 2: the recipe has changed since (max_steps was 9, is 10)\n"
    assert capsys.readouterr().out == reason


def test_what_did_not_run_has_a_line_with_its_command(project, tmp_path):
    scripts, recipes, found = project
    text = format_section(recipes, tmp_path / "empty", tmp_path / "none.yaml")
    heading = "Not run yet, and what runs it:\n\n"
    lines = text.split(heading)[1].splitlines()[2:]
    assert [re.sub(" +", " ", line) for line in lines] == [
        f"| {name} | `python scripts/reproduce.py toy --methods {name}` |"
        for name in ("pretrain", "baseline", "protonet")
    ]
    run_all(found[:1], scripts, scripts / "kept")
    assert "--methods pretrain`" not in format_section(recipes, scripts / "kept", tmp_path / "none.yaml")
    run_all(found, scripts, scripts / "kept")
    assert heading not in format_section(recipes, scripts / "kept", tmp_path / "none.yaml")


def test_a_variant_that_is_new_or_changed_is_measured(project, tmp_path, capsys):
    """The run goes on, without training anew, and until then the tables hold no number of other options."""
    scripts, recipes, found = project
    run_all(found, scripts, scripts / "kept")
    for n, options in enumerate(({"n_query": 1}, {"n_query": 2})):
        recipe = f"max_steps: 9\nepisodes_per_step: 4\ntest_variants: {{few: {options}}}\n"
        (recipes / "protonet.yaml").write_text(recipe.replace("'", ""))
        text = format_section(recipes, scripts / "kept", tmp_path / "none.yaml")
        assert re.search(r"\n\| protonet, few +\| not run +\| not run +\| – ", text)
        assert re.search(r"\n\| protonet +\| 60.00 ± 0.00 +\| 60.00 ± 0.00 +\| 1 ", text) or n
        assert ("protonet, seed 2: the recipe has changed since (test_variants was " in capsys.readouterr().out) == n
        again = find_runs(recipes, tmp_path / "out", [2])[2]
        assert not again.complete
        for shot in (1, 5):
            few = made_up([0.4, 0.4], shot, config={"test_variants": {"few": options}})
            few.write(scripts / "prepared" / "protonet-seed2" / "records" / f"few-5-way-{shot}-shot.jsonl")
        assert run_all([again], scripts, scripts / "kept") == []
        assert calls(scripts)[3 + n :] == ["train_episodic protonet-seed2 resume - 2"]
        text = format_section(recipes, scripts / "kept", tmp_path / "none.yaml")
        assert re.search(r"\n\| protonet, few +\| 40.00 ± 0.00 +\| 40.00 ± 0.00 +\| 1 ", text)


def test_columns_stand_in_the_order_of_ways_and_shots(tmp_path):
    """Whatever recipe names a cell first; and a folder without measured floors has no rows for them."""
    recipes = Path(__file__).parents[2] / "scripts" / "recipes" / "euro_finetune"
    text = format_section(recipes, tmp_path, tmp_path / "none.yaml")
    assert re.search(r"^\| method +\| 8w1s +\| 8w4s +\| 8w10s ", text)
    assert "raw pixels" not in text


def test_what_is_expected_is_filled_in_from_results(project, capsys):
    scripts, recipes, found = project
    head = "# Command:  python x\n# Expected: by hand\n#           in two lines\n# Source:   a paper\n"
    text = "kind: pretrain\nrow: stage 1\nrun_dir: runs/toy/pretrain\nmax_steps: 30\nbatch_size: 64\n"
    text += "rows:\n  nearest: {}\n"
    (recipes / "pretrain.yaml").write_text(head + text)
    (recipes / "baseline.yaml").unlink()
    (recipes / "protonet.yaml").write_text("# Expected: \n" + (recipes / "protonet.yaml").read_text())
    run_all([found[0], found[2]], scripts, scripts / "kept")
    assert fill_expected(recipes, scripts / "kept") == [recipes / "pretrain.yaml", recipes / "protonet.yaml"]
    filled = "# Expected: 5w1s, 5w5s; seed 2\n#           stage 1: 80.00 ± 0.00 / 80.00 ± 0.00\n"
    filled = f"# Command:  python x\n{filled}#           nearest: not measured yet\n# Source:   a paper\n{text}"
    assert (recipes / "pretrain.yaml").read_text() == filled
    assert fill_expected(recipes, scripts / "nothing was run here") == []
    assert (recipes / "pretrain.yaml").read_text() == filled
    alone = "# Expected: 60.00 ± 0.00 / 60.00 ± 0.00 (5w1s, 5w5s; seed 2)\n"
    assert (recipes / "protonet.yaml").read_text() == f"{alone}max_steps: 9\nepisodes_per_step: 4\n"
    assert fill_expected(recipes, scripts / "kept") == []  # nothing is new
    (recipes / "protonet.yaml").write_text("# Expected: old\nmax_steps: 10\n")
    capsys.readouterr()
    fill_expected(recipes, scripts / "kept")  # the result is of another recipe
    assert (recipes / "protonet.yaml").read_text() == "# Expected: not measured yet\nmax_steps: 10\n"
    assert capsys.readouterr().out == ""


def test_a_recipe_of_several_test_sets_expects_what_its_page_says(project):
    scripts, recipes, found = project
    run_all([found[2]], scripts, scripts / "kept")
    text = (
        "# Expected: not measured yet\nkind: frozen\nrows: {nearest: {}}\ntest_sets: {near: {}, far: {test_seed: 1}}\n"
    )
    (recipes / "elsewhere.yaml").write_text(text)
    assert fill_expected(recipes, scripts / "kept") == [recipes / "elsewhere.yaml"]
    expected = text.replace("not measured yet", f"docs/results/{recipes.name}.md")
    assert (recipes / "elsewhere.yaml").read_text() == expected
