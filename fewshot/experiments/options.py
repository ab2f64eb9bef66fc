"""Checks every dictionary of options in a configuration before any data are read."""

from dataclasses import replace
from pathlib import Path

from fewshot.backbones.create import check_backbone
from fewshot.config import OF_EPISODES, ExperimentConfig
from fewshot.datasets import DATASETS
from fewshot.errors import ConfigError, EpisodeError
from fewshot.evaluation.rows import RowKind
from fewshot.experiments.build import AnyConfig, list_record_files
from fewshot.experiments.cells import list_cells, list_variants
from fewshot.images.augment import make_augmentation
from fewshot.methods import METHODS, find_method
from fewshot.registry import Option
from fewshot.sampling.spec import Count, EpisodeSpec, bounds


def check_options(config: AnyConfig) -> None:
    """Check the names of method, backbone and data sets, and the names and types of their options.

    Also checks the test cells, and that a method which is made for a number of classes gets no more.

    Raises:
        UnknownNameError: for a name that is not known; the message offers the nearest one.
        ConfigError: for a value of the wrong type, which the message names, and for values that exclude each other.
    """
    check_backbone(config.backbone, config.backbone_options)
    make_augmentation(config.augmentation)
    DATASETS.options(config.dataset).check(config.dataset_options)
    test, options = config.dataset, config.dataset_options
    if config.test_dataset:
        test, options = config.test_dataset, config.test_dataset_options
    for changes in ({}, *config.test_also.values()):
        DATASETS.options(test).check({**options, **changes})
    if isinstance(config, ExperimentConfig):
        of_method = METHODS.options(config.method)
        of_method.check(config.method_options)
        of_variants = {**of_method.known, **{name: Option(name) for name in OF_EPISODES}}
        for row, changes in config.test_variants.items():
            if row in set(RowKind):
                raise ConfigError(f"test_variants: {row!r} is a row of test tables already; choose another name")
            replace(of_method, known=of_variants).check(changes)
        _check_ways(config)
    _check_record_files(config)


def _check_ways(config: ExperimentConfig) -> None:
    """Raise `ConfigError` where an episode has more classes than the method is made for."""
    of_method = METHODS.options(config.method).known
    if not find_method(config.method).learned_classes or "n_way" not in of_method:
        return
    most = config.method_options.get("n_way", of_method["n_way"].default)
    ways: dict[str, Count] = {"train_n_way": config.train_n_way, "val_n_way": config.val_n_way}
    asked = [*(ways.items() if config.max_steps else ()), *(("test_n_way", way) for way in config.test_n_way)]
    if config.test_varied:
        asked.append(("test_varied: n_way", _list_cells(config, RowKind.TRAINED)[-1].n_way))
    for name, way in asked:
        if bounds(way)[1] > most:
            raise ConfigError(
                f"{name} is {way}, but {config.method} is made for at most {most} classes: method_options.n_way"
            )


def _check_record_files(config: AnyConfig) -> None:
    """Raise `ConfigError` where names of test sets and rows would give different test cells one file of records."""
    place = replace(config, run_dir=config.run_dir or "run")
    cells: dict[Path, tuple[str, str, EpisodeSpec]] = {}
    for test_set in ("", *config.test_also):
        for row in (*RowKind, *list_variants(config)):
            listed = _list_cells(config, row)
            for spec, path in zip(listed, list_record_files(place, test_set, row, listed), strict=True):
                cell = (test_set, str(row), spec)
                if (other := cells.setdefault(path, cell)) != cell:
                    one, two = (" ".join(filter(None, (name, kind, str(form)))) for name, kind, form in (other, cell))
                    raise ConfigError(
                        f"the test cells {one!r} and {two!r} would have the same file of records, {path.name}: choose "
                        "other names in test_also or test_variants, or other counts in test_varied"
                    )


def _list_cells(config: AnyConfig, row: str) -> list[EpisodeSpec]:
    try:
        return list_cells(config, row)
    except EpisodeError as error:
        where = f"test_variants: {row}" if row in list_variants(config) else "test_varied"
        raise ConfigError(f"{where}: {error}") from error
