"""The documentation: the site has every page, its code runs as it stands, its commands are valid."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from fewshot import cli
from fewshot.commands.declarations import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
MADE = {"methods.md", "api.md", "commands.md", "results/index.md", "changelog.md", "contributing.md", "data.md"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted(path for path in DOCS.rglob("*.md") if "results" not in path.parts and path.name != "log.md")


def list_pages(nav: object) -> list[str]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in nav for page in list_pages(part.values() if isinstance(part, dict) else part)]


def list_blocks(path: Path, language: str) -> list[str]:
    """The code of a page, in order."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in blocks]


def test_every_page_stands_in_the_navigation_once():
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    notebooks = {str(path.relative_to(ROOT)) for path in NOTEBOOKS}
    results = {page for page in pages if page.startswith("results/")}  # which are there as RESULTS.md leads to them
    assert sorted(list_pages(SITE["nav"])) == sorted((pages - results) | MADE | notebooks)


def run_page(path: Path, smaller: dict[str, str]) -> dict[str, object]:
    """The names that the code of a page leaves behind, with some of its numbers smaller."""
    code = "\n".join(list_blocks(path, "python"))
    for full, less in smaller.items():
        assert code.count(full) == 1, full
        code = code.replace(full, less)
    names: dict[str, object] = {"__name__": path.stem}
    exec(compile(code, str(path), "exec"), names)
    return names


def test_the_tutorial_on_training_runs(capsys, monkeypatch):
    smaller = {
        "max_steps=500": "max_steps=2, train_n_way=5, val_episodes=4, val_every_steps=2",
        "n_episodes=1000": "n_episodes=20",
        'load_dataset("glyphs", split)': 'load_dataset("glyphs", split, n_writers=17)',
    }
    names = run_page(DOCS / "tutorials" / "train.md", smaller)
    assert names["records"].accuracy.shape == (20,)
    assert re.search(r"\n\d+\.\d\d ± \d+\.\d\d%\n", capsys.readouterr().out)


def test_the_tutorial_on_photographs_runs_and_tells_them_apart(capsys):
    names = run_page(DOCS / "tutorials" / "photographs.md", {})
    assert "['gold' 'copper']" in capsys.readouterr().out
    assert sorted(names["classifier"].classes_) == ["copper", "gold", "silver"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_command_of_a_page_is_valid(page, monkeypatch):
    """Folders, files and plugins need not exist to be parsed; recipes are those of the repository."""
    monkeypatch.chdir(ROOT)
    text = "\n".join(list_blocks(page, "bash")).replace("\\\n", " ")
    lines = [part for line in text.splitlines() for part in line.split("#")[0].split("&&")]
    found = [line[line.index("fewshot ") :] for line in lines if re.search(r"(^|-m )fewshot (?!--help)", line)]
    for line in found:
        _, name, *words = (word.strip("'") for word in re.findall(r"(?:'[^']*'|\S)+", line))
        if "--help" not in words:
            command = COMMANDS[name]
            assert cli.parse(command.config, "", words, positional=command.positional)


def test_what_the_how_to_pages_define_is_trained(tmp_path):
    """The method, the backbone and the data set of these pages, together, as plugins."""
    files = {}
    for page in ("method", "backbone", "dataset"):
        for block in list_blocks(DOCS / "how-to" / f"{page}.md", "python"):
            name = re.match(r'"""(\w+\.py)"""', block)[1]
            files[name] = block
            (tmp_path / name).write_text(block)
    assert sorted(files) == ["birds.py", "birds_h5.py", "mine.py", "tiny.py"]
    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        images = rng.integers(0, 255, (24, 3, 16, 16), np.uint8)
        names = [f"{split} {c}" for c in range(4)]
        np.savez(tmp_path / f"birds-{split}.npz", images=images, labels=np.arange(24) % 4, names=names)
        assert number < 3
    plugins = ["--plugins", *(str(tmp_path / name) for name in ("mine.py", "tiny.py", "birds.py"))]
    small = (
        "--max_steps 1 --train_n_way 3 --train_n_query 2 --val_n_way 3 --val_n_query 2 --val_episodes 3 --test_n_way 3"
    )
    small += " --test_n_shot 1 --test_n_query 2 --test_episodes 5 --precision float32 --dataset birds --backbone tiny"
    command = [sys.executable, "-m", "fewshot", "train", *plugins, *small.split(), "--method", "manhattan"]
    places = ["--data_root", str(tmp_path), "--run_dir", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *places], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "manhattan" in done.stdout


def test_the_data_set_of_the_page_reads_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    code = list_blocks(DOCS / "how-to" / "dataset.md", "python")[1].replace('@DATASETS.register("birds-h5")\n', "")
    names: dict[str, object] = {}
    exec(code, names)
    images = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)
    with h5py.File(tmp_path / "birds.h5", "w") as file:
        group = file.create_group("test")
        group["images"], group["labels"], group["names"] = images, [0, 0, 1, 1, 2, 2], ["a", "b", "c"]
    imageset = names["birds_h5"](tmp_path, "test")
    assert np.array_equal(imageset.images.numpy(), images.transpose(0, 3, 1, 2))
    assert imageset.class_names == ("a", "b", "c")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    install, *cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert any(cell["outputs"] for cell in cells)
    assert [cell["execution_count"] for cell in (install, *cells)] == list(range(1, len(cells) + 2))
    text = json.dumps([cell["outputs"] for cell in cells])
    assert not re.search(r"Traceback|Error|/home/|/root/", text)


def load_address() -> ModuleType:
    """docs/address.py as a module."""
    spec = importlib.util.spec_from_file_location("address", DOCS / "address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_what_names_the_address(folder: Path) -> list[Path]:
    """Copies of the files that docs/address.py writes."""
    names = ["setup.cfg", "CITATION.cff", *(f"notebooks/{path.name}" for path in NOTEBOOKS)]
    (folder / "notebooks").mkdir()
    return [Path(shutil.copy(ROOT / name, folder / name)) for name in names]


def test_the_address_of_the_repository_is_the_same_everywhere(tmp_path):
    """Set again, it changes nothing: no badge leads elsewhere, and there is none without an address."""
    address = load_address()
    copies = copy_what_names_the_address(tmp_path)
    address.set_address(address.read_address(), tmp_path)
    for path in copies:
        assert path.read_bytes() == (ROOT / path.relative_to(tmp_path)).read_bytes(), path.name
    if not address.read_address():
        assert not any("colab.research" in path.read_text(encoding="utf-8") for path in copies)
        assert "repo_url" not in SITE


def test_an_address_gives_each_notebook_a_badge_and_a_place_to_install_from(tmp_path):
    address = load_address()
    _, citation, *notebooks = copy_what_names_the_address(tmp_path)
    address.set_address("https://github.com/us/other", tmp_path)
    address.set_address("https://github.com/us/it", tmp_path)
    assert address.read_address(tmp_path) == "https://github.com/us/it"
    assert yaml.safe_load(citation.read_text())["repository-code"] == "https://github.com/us/it"
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"])
        assert title.count("colab.research") == 2  # the picture and where it leads
        assert f"(https://colab.research.google.com/github/us/it/blob/main/notebooks/{path.name})" in title
        install = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
        assert 'ADDRESS = "https://github.com/us/it"' in install
    with pytest.raises(SystemExit, match="no address of a repository"):
        address.set_address("us/it", tmp_path)
