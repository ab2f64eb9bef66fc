"""The test cells of a configuration: which episodes each row of its test table is measured on."""

from dataclasses import replace
from typing import Any

from fewshot.config import OF_EPISODES, AnyConfig
from fewshot.errors import ConfigError
from fewshot.registry import unknown_name
from fewshot.sampling.spec import EpisodeSpec


def list_test_cells(config: AnyConfig) -> list[EpisodeSpec]:
    """List the test cells: every number of ways with every number of shots, then the cell of `test_varied`."""
    query, disjoint = config.test_n_query, config.test_disjoint_groups
    cells = [EpisodeSpec(way, shot, query, disjoint) for way in config.test_n_way for shot in config.test_n_shot]
    return [*cells, _read_varied(config)] if config.test_varied else cells


def _read_varied(config: AnyConfig) -> EpisodeSpec:
    """Read the cell of varying episodes, whose ranges are lists."""
    varied, known = config.test_varied, ("n_way", "n_shot", "n_query")
    for name, count in varied.items():
        if name not in known:
            raise unknown_name("property of test_varied", name, known)
        numbers = count if isinstance(count, list | tuple) and len(count) == 2 else [count]
        if not all(type(number) is int for number in numbers):
            raise ConfigError(f"test_varied: {name} is a number or a range [low, high], got {count!r}")
    counts = {name: tuple(count) if isinstance(count, list) else count for name, count in varied.items()}
    if missing := [name for name in known if name not in counts]:
        raise ConfigError(f"test_varied must say n_way, n_shot and n_query, and {', '.join(missing)} is missing")
    return EpisodeSpec(**counts, disjoint_groups=config.test_disjoint_groups)


def list_cells(config: AnyConfig, row: str) -> list[EpisodeSpec]:
    """List the test cells of a row of the test table.

    An entry of `test_variants` may set another n_query, or disjoint_groups.
    """
    own = {name: value for name, value in list_variants(config).get(row, {}).items() if name in OF_EPISODES}
    n_query, disjoint = own.get("n_query"), own.get("disjoint_groups", config.test_disjoint_groups)
    if n_query not in (None, "shots") and type(n_query) is not int:
        raise ConfigError(f'test_variants: {row}: n_query is a number or "shots", got {n_query!r}')
    if not isinstance(disjoint, bool):
        raise ConfigError(f"test_variants: {row}: disjoint_groups is true or false, got {disjoint!r}")
    cells = [replace(cell, disjoint_groups=disjoint) for cell in list_test_cells(config)]
    if n_query is None:
        return cells
    return [replace(cell, n_query=cell.n_shot if n_query == "shots" else n_query) for cell in cells]


def list_variants(config: AnyConfig) -> dict[str, dict[str, Any]]:
    """List further rows of the test table, with the same weights; a classifier of stage 1 has none."""
    return getattr(config, "test_variants", {})
