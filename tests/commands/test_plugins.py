"""A method, a backbone and a data set in a user's own file: trained, evaluated, compared and reproduced by command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import striped

import fewshot
from fewshot import BACKBONES, DATASETS, METHODS, Records
from fewshot.errors import ConfigError
from fewshot.runtime import plugins
from fewshot.runtime.plugins import load_plugins

REGISTRIES = (METHODS, BACKBONES, DATASETS)
PAGE = (Path(fewshot.__file__).parents[1] / "docs" / "how-to" / "plugins.md").read_text()
EXAMPLE = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if '"""mine.py"""' in block)
SHORT = (
    "dataset: birds\nmax_steps: 4\ntrain_n_way: 5\nval_episodes: 10\nval_every_steps: 4\n"
    "test_episodes: 20\ntest_floor: false\nprecision: float32\n"
)


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in a folder that is not the repository's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FEWSHOT_DATA": "data"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "fewshot", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with mine.py of the page on plugins and two runs: `mine` by the command line, `proto` by a recipe."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "data").mkdir()
    for seed, split in enumerate(("train", "val", "test")):
        birds = striped(8, n_images=24, split=split, seed=seed)
        arrays = {"images": birds.images, "labels": birds.labels, "names": birds.class_names}
        np.savez(folder / "data" / f"birds-{split}.npz", **arrays)
    (folder / "mine.py").write_text(EXAMPLE)
    (folder / "short.yaml").write_text(SHORT)
    (folder / "proto.yaml").write_text(f"plugins: [mine.py]\nbackbone: tiny\n{SHORT}")
    words = ["--plugins", "mine.py", "--backbone", "tiny", "--method", "manhattan"]
    options = ["--method_options.sharpness", 0.5, "--backbone_options.n_filters", 8]
    for result in (
        run(folder, "train", "--config", "short.yaml", *words, *options, "--run_dir", "runs/mine"),
        run(folder, "train", "--config", "proto.yaml", "--run_dir", "runs/proto"),
    ):
        assert result.returncode == 0, result.stderr
    return folder


def test_a_run_remembers_its_plugin_and_records_say_which_it_was(trained):
    assert json.loads((trained / "runs/mine/config.json").read_text())["plugins"] == ["../../mine.py"]
    header = Records.read(trained / "runs/mine/records/trained-5-way-1-shot.jsonl").header
    assert (header.dataset, header.method) == ("birds", "Manhattan")
    assert header.plugins == {"mine.py": plugins._digest(trained / "mine.py")}
    assert header.command.startswith("fewshot train --config short.yaml --plugins mine.py ")


def test_evaluate_finds_the_plugin_of_a_run(trained):
    words = ["--n_episodes", 20, "--precision", "float32", "--json", "again.jsonl"]
    result = run(trained, "evaluate", "--run_dir", "runs/mine", *words)
    assert result.returncode == 0, result.stderr
    again = Records.read(trained / "again.jsonl")
    before = Records.read(trained / "runs/mine/records/trained-5-way-1-shot.jsonl")
    assert np.array_equal(again.accuracy, before.accuracy)
    assert again.header.weights == before.header.weights


def test_compare_finds_the_plugins_of_both_runs(trained):
    result = run(trained, "compare", "runs/mine", "runs/proto", "--n_episodes", 20, "--out", "compared")
    assert result.returncode == 0, result.stderr
    assert "mine" in result.stdout
    assert list((trained / "compared").iterdir())


def test_a_folder_of_recipes_outside_the_repository_is_reproduced(trained):
    recipes = trained / "my_recipes" / "birds"
    recipes.mkdir(parents=True)
    (recipes / "manhattan.yaml").write_text(f"plugins: [mine.py]\nbackbone: tiny\nmethod: manhattan\n{SHORT}")
    result = run(trained, "reproduce", "birds", "--recipes", "my_recipes", "--results", "results")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Command: `fewshot reproduce --recipes my_recipes birds`" in result.stdout
    kept = (trained / "results/birds/manhattan-seed0.json").read_text()
    assert '"command": "fewshot train --config my_recipes/birds/manhattan.yaml ' in kept
    assert plugins._digest(trained / "mine.py") in kept


def test_a_plugin_that_changed_or_moved_after_the_run_is_noticed(trained):
    source = trained / "mine.py"
    source.rename(trained / "moved.py")
    try:
        gone = run(trained, "evaluate", "--run_dir", "runs/mine")
        assert gone.returncode == 2
        assert "there is no file mine.py" in gone.stderr
        (trained / "new").mkdir()
        (trained / "new" / "mine.py").write_text(f"{EXAMPLE}# changed\n")
        words = ["--n_episodes", 5, "--json", "moved.jsonl"]
        found = run(trained, "evaluate", "--run_dir", "runs/mine", "--plugins", "new/mine.py", *words)
        assert found.returncode == 0, found.stderr
        assert "runs/mine: the plugin mine.py has changed since this run began" in found.stderr
    finally:
        (trained / "moved.py").rename(source)


@pytest.fixture
def forgetful(monkeypatch):
    """Plugins of a test are forgotten after it."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("fewshot_plugin_", "house_of_plugins")):
            del sys.modules[name]


@pytest.mark.usefixtures("forgetful")
def test_a_file_is_loaded_once_wherever_it_is_named_from(tmp_path, monkeypatch):
    (tmp_path / "once.py").write_text(
        "from pathlib import Path\nwith open(Path(__file__).parent / 'log', 'a') as f:\n    f.write('x')\n"
    )
    monkeypatch.chdir(tmp_path)
    load_plugins(["once.py", str(tmp_path / "once.py")])
    load_plugins(["once.py"])
    assert (tmp_path / "log").read_text() == "x"
    (tmp_path / "once.py").write_text("pass\n")
    with pytest.raises(ConfigError, match=r"once.py differs from the once.py that is loaded already"):
        load_plugins(["once.py"])


@pytest.mark.usefixtures("forgetful")
def test_a_package_is_a_plugin_too_and_all_its_files_are_digested(tmp_path, monkeypatch):
    package = tmp_path / "house_of_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("from house_of_plugins import room\n")
    (package / "room.py").write_text("VALUE = 1\n")
    monkeypatch.chdir(tmp_path)
    load_plugins(["house_of_plugins"])
    assert sys.modules["house_of_plugins"].room.VALUE == 1
    before = plugins.list_loaded_plugins()["house_of_plugins"]
    (package / "room.py").write_text("VALUE = 2\n")
    assert plugins._digest(package) != before


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent.py", None, "there is no file absent.py"),
        ("no_such_module", None, "there is no module 'no_such_module' that Python can import"),
        ("broken.py", "import json\nraise KeyError('x')\n", r"broken.py cannot .*: KeyError: 'x' \(.*, line 2\)"),
        ("ends.py", "raise SystemExit('bye')\n", r"ends.py cannot be imported: SystemExit: bye"),
        ("sys", None, "there is no module 'sys' that Python can import"),
        ("wrong.py", "def f(:\n", r"wrong.py cannot be imported: SyntaxError"),
        ("twice.py", "from fewshot import METHODS\nMETHODS.register('protonet', int)\n",
         "method 'protonet' is registered twice"),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_loaded_is_refused_with_a_sentence(tmp_path, monkeypatch, name, text, words):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_plugins([name])
    assert plugins.list_loaded_plugins() == {}


@pytest.mark.usefixtures("forgetful")
def test_a_plugin_that_fails_registers_nothing_and_can_be_mended(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = [registry.names() for registry in REGISTRIES]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fewshot_plugin_helper.py").write_text(
        "from fewshot import METHODS\n@METHODS.register('helped')\nclass Helped: pass\n"
    )
    half = (
        "from functools import partial\nimport fewshot_plugin_helper\nfrom fewshot import BACKBONES, DATASETS\n"
        "from fewshot.backbones.convnet import ConvNet\nBACKBONES.register('conv3', partial(ConvNet, depth=3))\n"
        "DATASETS.register('none', int)\n"
    )
    (tmp_path / "half.py").write_text(f"{half}1 / 0\n")
    with pytest.raises(ConfigError, match=r"half.py cannot be imported: ZeroDivisionError"):
        load_plugins(["half.py"])
    assert [registry.names() for registry in REGISTRIES] == known
    (tmp_path / "half.py").write_text(half)
    try:
        load_plugins(["half.py"])
        added = [set(registry.names()).difference(names) for registry, names in zip(REGISTRIES, known, strict=True)]
        assert added == [{"helped"}, {"conv3"}, {"none"}]
    finally:
        for registry, names in zip(REGISTRIES, known, strict=True):
            for name in set(registry.names()).difference(names):
                del registry._factories[name], registry._summaries[name]
