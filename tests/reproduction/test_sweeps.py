"""Sweeps: which runs a grid makes, and a small one from end to end."""

from pathlib import Path

import pytest

from fewshot import commands
from fewshot.errors import ConfigError
from fewshot.reproduction.sweeps import find_sweep_runs, name_point, parse_grid

TINY = """
max_steps: 2
train_n_way: 2
train_n_query: 2
backbone_options: {n_filters: 4}
dataset_options: {n_writers: 4}
val_n_way: 2
val_n_query: 1
val_episodes: 5
test_n_way: [2]
test_n_shot: [1]
test_n_query: 1
test_episodes: 10
test_floor: false
precision: float32
"""


def test_a_grid_is_every_combination_with_every_seed(tmp_path):
    recipe = tmp_path / "anil.yaml"
    recipe.write_text("method: anil\nmax_steps: 7\n")
    grid = ["lr=1e-3,3e-4", "method_options.inner_steps=1,5", "train_n_way=5"]
    runs = find_sweep_runs(str(recipe), None, grid, [0, 2], Path("out"))
    assert [run.folder.path.name for run in runs] == [
        f"lr={lr}-inner_steps={steps}-seed{seed}" for lr in ("1e-3", "3e-4") for steps in (1, 5) for seed in (0, 2)
    ]
    found = [(run.config.lr, run.config.method_options["inner_steps"], run.config.seed) for run in runs]
    assert found == [(lr, steps, seed) for lr in (1e-3, 3e-4) for steps in (1, 5) for seed in (0, 2)]
    assert {(run.config.method, run.config.max_steps, run.config.train_n_way) for run in runs} == {("anil", 7, 5)}
    alone = find_sweep_runs(str(recipe), None, [], [3], Path("out"))
    assert [run.folder.path for run in alone] == [Path("out/anil-seed3")]


def test_a_sweep_of_stage_one_and_of_a_row(tmp_path):
    recipe = tmp_path / "stage1.yaml"
    recipe.write_text("kind: pretrain\nrun_dir: runs/x/stage1\nrows:\n  nearest: {}\n")
    (run,) = find_sweep_runs(str(recipe), None, ["batch_size=32"], [0], Path("out"))
    assert (run.subcommand, run.config.batch_size) == ("pretrain", 32)
    rows = find_sweep_runs(str(recipe), "nearest", ["test_seed=1,2"], [0], Path("out"))
    assert [(run.subcommand, run.config.method, run.config.test_seed) for run in rows] == [
        ("train", "nearest", 1), ("train", "nearest", 2),
    ]  # fmt: skip


def test_commas_within_brackets_part_no_values():
    assert parse_grid(["lr_milestones=[0.5,0.9],[0.7]", "augmentation={a: 1, b: 2},{}"]) == {
        "lr_milestones": ["[0.5,0.9]", "[0.7]"], "augmentation": ["{a: 1, b: 2}", "{}"],
    }  # fmt: skip
    assert name_point({"a.x": "1", "b.x": "[2, 3]"}) == "a.x=1-b.x=2_3"


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        (["lr"], [0], "grid: 'lr' is no option with values, such as lr=1e-3,3e-4"),
        (["lr=1,,2"], [0], "'lr=1,,2' is no option with values"),
        (["lr=1,1"], [0], "grid: lr has a value twice: 1,1"),
        (["lr=1", "lr=2"], [0], "grid: lr is given twice"),
        (["seed=1,2"], [0], r"grid: seed is given by the sweep itself \(--seeds\)"),
        (["lr=1"], [0, 0], r"seeds must be one or more different numbers, got \[0, 0\]"),
        (["lr=fast"], [0], "the sweep's run train-seed0 cannot be run as it stands"),
        (["train_only=true"], [0], "a sweep ends in a table of test results: leave out train_only"),
        (["max_step=3"], [0], "the sweep's run train-seed0 cannot be run as it stands"),
    ],
)
def test_mistakes_of_a_grid_are_named_before_anything_runs(grid, seeds, message, capsys):
    with pytest.raises(ConfigError, match=message):
        find_sweep_runs(None, None, grid, seeds, Path("out"))
    if grid == ["max_step=3"]:
        assert "Did you mean max_steps?" in capsys.readouterr().err


def test_a_sweep_runs_ends_in_a_table_and_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    words = ["--config", "tiny.yaml", "--grid", "lr=1e-3,1e-4", "--seeds", "0", "1", "--summary", "table.csv"]
    commands.execute("sweep", words)
    printed = capsys.readouterr().out
    assert printed.count(": running, output in runs/sweep-tiny/lr=") == 4
    assert "\n| lr " in printed
    assert "\n| 0.001  | 0 1 " in printed
    lines = Path("table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["lr", "0.001", "0.0001"]
    times = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")}
    assert len(times) == 12  # the best and the last weights of each, and what they were trained on
    commands.execute("sweep", words)
    assert capsys.readouterr().out.count("(had run)") == 4
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.safetensors")} == times
    with pytest.raises(ConfigError, match="holds a run with another configuration"):
        commands.execute("sweep", [*words, "--grid", "max_steps=3"])  # of the folders of the runs before
