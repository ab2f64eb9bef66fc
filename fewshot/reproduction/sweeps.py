"""Sweeps: a recipe with every combination of some of its options, as runs."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from fewshot import cli
from fewshot.config.recipes import EPISODIC, read_recipe
from fewshot.config.saved import CLASSES
from fewshot.errors import ConfigError
from fewshot.reproduction.runs import Run
from fewshot.training.run_folder import RunFolder

SEED, FOLDER = "seed", "run_dir"  # options that a sweep gives itself


def find_sweep_runs(
    recipe: str | None, row: str | None, grid: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Run]:
    """The runs of a sweep: every combination of the options in `grid` with every seed.

    Args:
        recipe: the file of the options that all share, or None for those of `fewshot train`.
        row: the row of the recipe, in the place of its training.
        grid: each an option with its values, `lr=1e-3,3e-4`.
        seeds: of training.
        out: the folder of their folders, which are called by what differs.

    Returns:
        The runs, seed after seed of each combination.

    Raises:
        ConfigError: an option is given twice, has no values or one of them twice, or is refused.
    """
    varied = parse_grid(grid)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be one or more different numbers, got {list(seeds)}")
    if recipe is None and row is not None:
        raise ConfigError(f"--row {row} is a row of a recipe: name its file with --config")
    kind = _find_kind(recipe, row)
    runs = []
    for values in product(*varied.values()):
        point = dict(zip(varied, values, strict=True))
        name = name_point({key: value for key, value in point.items() if len(varied[key]) > 1}) or _stem(recipe, row)
        for seed in seeds:
            folder = out / f"{name}-seed{seed}"
            words = [*(["--config", recipe] if recipe else []), *(["--row", row] if row else [])]
            words += [word for key, value in point.items() for word in (f"--{key}", value)]
            words += ["--run_dir", str(folder), "--seed", str(seed)]
            runs.append(_parse(kind, name, folder, words))
    return runs


def parse_grid(grid: Sequence[str]) -> dict[str, list[str]]:
    """The values of each option, as they are written: commas within brackets part no values."""
    varied: dict[str, list[str]] = {}
    for text in grid:
        option, equals, values = text.partition("=")
        found = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|[^,\[\{])+", values)
        if not equals or not option or not found or values.count(",") != ",".join(found).count(","):
            raise ConfigError(f"grid: {text!r} is no option with values, such as lr=1e-3,3e-4")
        if option in (SEED, FOLDER):
            raise ConfigError(f"grid: {option} is given by the sweep itself{' (--seeds)' * (option == SEED)}")
        if option in varied:
            raise ConfigError(f"grid: {option} is given twice")
        if len(set(found)) < len(found):
            raise ConfigError(f"grid: {option} has a value twice: {values}")
        varied[option] = found
    return varied


def name_point(point: dict[str, str]) -> str:
    """`lr=1e-3-inner_steps=5`: options by the last part of their names where that tells them apart."""
    last = [key.rpartition(".")[2] for key in point]
    keys = last if len(set(last)) == len(last) else list(point)
    clean = [re.sub(r"[^A-Za-z0-9.+_-]+", "_", value).strip("_") for value in point.values()]
    return "-".join(f"{key}={value}" for key, value in zip(keys, clean, strict=True))


def _stem(recipe: str | None, row: str | None) -> str:
    return row or (Path(recipe).stem if recipe else "train")


def _find_kind(recipe: str | None, row: str | None) -> str:
    if recipe is None:
        return EPISODIC
    found = read_recipe(Path(recipe))
    entry = next((entry for entry in found.rows if entry.name == row), found.training)
    return entry.kind if entry else EPISODIC  # what is wrong with it is said when it is parsed


def _parse(kind: str, name: str, folder: Path, words: list[str]) -> Run:
    try:
        config = cli.parse(CLASSES[kind], "", words)
    except SystemExit:  # the reason stands on stderr
        raise ConfigError(f"the sweep's run {folder.name} cannot be run as it stands") from None
    if config.train_only:
        raise ConfigError("a sweep ends in a table of test results: leave out train_only")
    return Run(name, name, RunFolder(folder), tuple(words), config)
