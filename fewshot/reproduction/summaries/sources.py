"""Where the numbers of a summary come from: folders of runs, and files of stored results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot.config import AnyConfig, read_saved
from fewshot.errors import ConfigError, DataError
from fewshot.evaluation.records import Measured, Records, name_cell
from fewshot.experiments.cells import list_test_cells, list_variants
from fewshot.reproduction.results import Result, name_row
from fewshot.reproduction.runs import find_own_row
from fewshot.training.run_folder import RunFolder

OWN = ""  # what the row of a run's own numbers is called


@dataclass(frozen=True)
class Source:
    """A finished training: its configuration, and what was measured in each row of its test table.

    `records`: by the test set (of `test_also`, or "") and the row ("" for the run's own, else a variant's name).
    """

    place: Path
    config: AnyConfig
    records: dict[tuple[str, str], list[Measured]]


def read_sources(paths: Sequence[str], rows: Sequence[str] = ()) -> list[Source]:
    """What each of the paths holds, in their order.

    Args:
        paths: folders of runs, folders that hold such folders (at any depth), or files of stored results.
        rows: rows of the test tables beside the runs' own and their variants, such as untrained.

    Raises:
        ConfigError: a path holds no run, or the same run twice.
        DataError: a run has not been measured to its end.
    """
    places = [place for path in paths for place in _find_places(Path(path))]
    resolved = [place.resolve() for place in places]
    twice = sorted({str(place) for place in resolved if resolved.count(place) > 1})
    if twice:
        raise ConfigError(f"a run is named twice: {', '.join(twice)}")
    return [_read_result(place, rows) if place.suffix == ".json" else _read_run(place, rows) for place in places]


def _find_places(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if RunFolder(path).config.is_file():
        return [path]
    found = sorted(config.parent for config in path.rglob(RunFolder(path).config.name))
    if not found:
        raise ConfigError(f"{path} holds no run: there is no {RunFolder(path).config.name} in it, or below it")
    return found


def _read_run(place: Path, more: Sequence[str]) -> Source:
    folder = RunFolder(place)
    config = read_saved(folder.read_config(), folder.config)
    own = find_own_row(config)
    records: dict[tuple[str, str], list[Measured]] = {}
    for test_set in ("", *config.test_also):
        for name, row in _name_rows(own, config, more).items():
            files = [folder.records(test_set, row, name_cell(vars(spec))) for spec in list_test_cells(config)]
            if name and not any(file.exists() for file in files):
                continue  # a row that this run does not have
            try:
                records[test_set, name] = [Records.read(file) for file in files]
            except FileNotFoundError as error:
                raise DataError(f"{place} has not been measured to its end: there is no {error.filename}") from error
    return Source(place, config, records)


def _read_result(place: Path, more: Sequence[str]) -> Source:
    result = Result.read(place)
    config = read_saved(result.facts["config"], place)
    records: dict[tuple[str, str], list[Measured]] = {}
    for test_set in ("", *config.test_also):
        for name, row in _name_rows(find_own_row(config), config, more).items():
            measured = result.records.get(name_row(test_set, row))
            if measured:
                records[test_set, name] = measured
    return Source(place, config, records)


def _name_rows(own: str, config: AnyConfig, more: Sequence[str]) -> dict[str, str]:
    """The rows that are asked, by what a summary calls them."""
    return {OWN: own, **{name: name for name in (*list_variants(config), *more)}}
