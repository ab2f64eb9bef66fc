"""The photographs that come with the package."""

from configparser import ConfigParser
from pathlib import Path

from fewshot.images.listing import list_class_files
from fewshot.photographs.demo import COINS

ROOT = Path(__file__).parents[2]


def test_the_coins_are_few_small_and_licensed():
    files = [path for path in COINS.rglob("*") if path.is_file()]
    pictures = [path for path in files if path.suffix == ".jpg"]
    assert len(pictures) == 24
    assert sum(path.stat().st_size for path in files) <= 400_000
    assert "MIT License" in (COINS / "LICENSE").read_text()
    assert "(c) 2018 Joakim Beijar" in (COINS / "README.txt").read_text()


def test_no_photograph_is_learned_from_and_asked_about():
    parts = {name: list_class_files(COINS / name) for name in ("support", "ask")}
    groups = {name: {file.file_name.rpartition("_")[0] for file in files} for name, files in parts.items()}
    assert not groups["support"] & groups["ask"]
    assert {file.class_name for file in parts["support"]} == {file.class_name for file in parts["ask"]}


def test_the_wheel_takes_them_and_no_other_data():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["fewshot.photographs"].replace(",", " ").split()
    packed = {path for pattern in patterns for path in COINS.parent.glob(pattern)}
    assert packed == {path for path in COINS.rglob("*") if path.is_file()}
