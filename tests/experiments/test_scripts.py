"""The scripts as a user runs them: results, help, and a clear message for every mistake."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import Records, cli
from fewshot.config import EvaluateConfig, ExperimentConfig, PretrainExperimentConfig

ROOT = Path(__file__).parents[2]
QUICK = """
max_steps: 12
train_n_way: 5
val_episodes: 20
val_every_steps: 6
test_episodes: 60
""".strip()


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A short run on glyphs, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(QUICK)
    result = run("train_episodic.py", "--config", folder / "recipe.yaml", "--run_dir", folder / "run", "--seed", 3)
    assert result.returncode == 0, result.stderr
    return folder / "run", result.stdout


def test_training_prints_the_table_and_writes_its_records(finished):
    folder, printed = finished
    for row in ("trained", "untrained", "raw pixels"):
        assert re.search(rf"\n{row} +\d+\.\d\d ± \d+\.\d\d +\d+\.\d\d ± \d+\.\d\d", printed), printed
    assert "5-way 1-shot" in printed
    assert "5-way 5-shot" in printed
    assert f"run folder:  {folder}" in printed
    assert f"--logdir {folder}" in printed
    trained = Records.read(folder / "records" / "trained-5-way-1-shot.jsonl")
    assert trained.header.dataset == "glyphs"
    assert trained.header.split == "test"
    assert f"{100 * trained.mean:.2f} ± {100 * trained.half_width_95:.2f}" in printed
    assert trained.header.data_fingerprint in printed
    assert json.loads((folder / "config.json").read_text())["seed"] == 3


def test_evaluation_repeats_the_training_script_number(finished, tmp_path):
    folder, _ = finished
    result = run("evaluate.py", "--run_dir", folder, "--n_episodes", 60, "--json", tmp_path / "records.jsonl")
    assert result.returncode == 0, result.stderr
    again = Records.read(tmp_path / "records.jsonl")
    before = Records.read(folder / "records" / "trained-5-way-1-shot.jsonl")
    assert np.array_equal(again.accuracy, before.accuracy)
    assert again.header.weights == before.header.weights


def test_evaluation_of_the_same_weights_with_other_options_of_the_method(tmp_path):
    folder = tmp_path / "run"
    quick = ["--max_steps", 2, "--train_n_way", 5, "--val_episodes", 5, "--val_every_steps", 2, "--test_episodes", 5]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: anil\ntest_n_shot: [1, 2]\ntest_variants: {few: {transductive: true, n_query: shots}}\n")
    trained = run("train_episodic.py", "--config", recipe, "--run_dir", folder, *quick, "--test_floor", "false")
    assert trained.returncode == 0, trained.stderr
    for row, transductive, n_query in (("trained", False, [15, 15]), ("few", True, [1, 2])):
        cells = [Records.read(folder / "records" / f"{row}-5-way-{shot}-shot.jsonl").header for shot in (1, 2)]
        assert [header.spec["n_query"] for header in cells] == n_query
        assert [header.transductive for header in cells] == [transductive] * 2
    for options in ([], ["--method_options.transductive", "true"]):
        result = run("evaluate.py", "--run_dir", folder, "--n_episodes", 20, *options)
        assert result.returncode == 0, result.stderr
    name = "glyphs-test-5-way-1-shot-15-queries-a-class-seed0"
    plain, transductive = (
        Records.read(folder / "records" / f"{name}{options}.jsonl") for options in ("", "-transductive-True")
    )
    assert [r.header.transductive for r in (plain, transductive)] == [False, True]
    assert plain.header.weights == transductive.header.weights
    assert not np.array_equal(plain.accuracy, transductive.accuracy)
    result = run("evaluate.py", "--run_dir", folder, "--method_options.learn_inner_lr", "true")
    assert result.returncode == 2
    assert "anil has other weights than the run: ['inner_rates.0', 'inner_rates.1']" in result.stderr


def test_evaluation_on_a_folder_of_pictures_with_groups(finished, tmp_path):
    folder, _ = finished
    for name in ("circle", "square", "Größe"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng(i).integers(0, 255, (20, 20), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"photo{i % 4}_{i}.png")
    arguments = [
        "--run_dir", folder, "--dataset", "folder", "--data_root", tmp_path / "pictures", "--split", "all",
        "--dataset_options", '{"channels": 1, "groups": "(photo[0-9])_"}', "--n_way", 3, "--n_query", 2,
        "--disjoint_groups", "--n_episodes", 30,
    ]  # fmt: skip
    result = run("evaluate.py", *arguments)
    assert result.returncode == 0, result.stderr
    assert "3-way 1-shot, 2 queries a class, disjoint groups: " in result.stdout
    assert "pictures/all" in result.stdout
    (tmp_path / "pictures" / "circle" / "photo0_0.png").write_bytes(b"")
    result = run("evaluate.py", *arguments)
    assert result.returncode == 2
    assert "photo0_0.png" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max_step", "3"], ["--max_step", "Did you mean max_steps?"]),
        (["--dataset", "glyph"], ["unknown data set 'glyph'", "Did you mean 'glyphs'?"]),
        (["--method", "protonett"], ["unknown method", "Did you mean 'protonet'?"]),
        (["--backbone", "conv5"], ["unknown backbone", "Did you mean 'conv"]),
        (["--lr", "fast"], ["lr must be a number, got fast"]),
        (["--max_steps", "-1"], ["max_steps must not be negative, got -1"]),
        (["--train_n_way", "5000"], ["462 classes, too few for 5000-way"]),
        (["--train_n_query", "30"], ["needs 31 images of each class"]),
        (["--test_n_shot", "[9]"], ["glyphs/test", "needs 24 images of each class"]),
        (["--augmentation", '{"spin": 3}'], ["spin"]),
        (["--resume", "--run_dir", "NOWHERE"], ["nothing to resume", "NOWHERE"]),
        (["--config", "NOWHERE.yaml"], ["NOWHERE.yaml"]),
    ],
)
def test_mistakes_are_answered_with_a_sentence(tmp_path, arguments, words):
    arguments = [str(tmp_path / a) if a.startswith("NOWHERE") else a for a in arguments]
    result = run(
        "train_episodic.py", *(["--run_dir", tmp_path / "run"] if "--run_dir" not in arguments else []), *arguments
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_mistyped_recipe_key_is_named(tmp_path):
    (tmp_path / "recipe.yaml").write_text("trian_n_way: 20\n")
    result = run("train_episodic.py", "--config", tmp_path / "recipe.yaml")
    assert result.returncode == 2
    assert "trian_n_way" in result.stderr
    assert "Did you mean train_n_way?" in result.stderr


def test_a_folder_that_holds_another_run_is_left_alone(finished):
    folder, _ = finished
    before = (folder / "config.json").read_text()
    result = run("train_episodic.py", "--run_dir", folder, "--seed", 4)
    assert result.returncode == 2
    assert "seed: 3 there, 4 now" in result.stderr
    assert (folder / "config.json").read_text() == before


def test_no_run_folder_is_said_so(tmp_path):
    result = run("evaluate.py", "--run_dir", tmp_path)
    assert result.returncode == 2
    assert "is no run folder" in result.stderr


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "scripts").glob("*.py")))
def test_help_reads_well_and_scripts_are_short(script):
    result = run(script, "--help")
    assert result.returncode == 0
    text = result.stdout + result.stderr
    assert "usage:" in text
    assert len((ROOT / "scripts" / script).read_text().splitlines()) <= 60


def test_help_is_quick():
    """At most 1.5 times `import torch` (medians of alternating runs)."""

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        return time.perf_counter() - start

    script = str(ROOT / "scripts" / "train_episodic.py")
    pairs = [(seconds(script, "--help"), seconds("-c", "import torch")) for _ in range(6)][1:]
    assert np.median([h / t for h, t in pairs]) <= 1.5, pairs


def test_every_option_is_explained(capsys):
    for config in (ExperimentConfig, PretrainExperimentConfig, EvaluateConfig):
        with pytest.raises(SystemExit):
            cli.parse(config, "", ["--help"])
        text = capsys.readouterr().out
        for name in config.__dataclass_fields__:
            assert re.search(rf"--{name}\b.*?(\n.*?){{0,3}}[a-z]{{3,}}", text), name


def test_a_run_trained_alone_is_measured_later_as_if_at_once(finished, tmp_path):
    folder, _ = finished
    recipe, alone = folder.parent / "recipe.yaml", tmp_path / "alone"
    arguments = ["--config", recipe, "--run_dir", alone, "--seed", 3]
    trained = run("train_episodic.py", *arguments, "--train_only", "true")
    assert trained.returncode == 0, trained.stderr
    assert not (alone / "records").exists()
    assert "--resume --train_only false" in trained.stdout
    measured = run("train_episodic.py", *arguments, "--resume", "--train_only", "false")
    assert measured.returncode == 0, measured.stderr
    for cell in ("trained-5-way-1-shot", "trained-5-way-5-shot", "raw-pixels-5-way-1-shot"):
        at_once, later = (Records.read(path / "records" / f"{cell}.jsonl") for path in (folder, alone))
        assert np.array_equal(at_once.accuracy, later.accuracy)
        assert at_once.header.weights == later.header.weights
