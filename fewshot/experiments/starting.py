"""Prepares runs that start from the backbone of another run, builds compared rows, and checks for leaked classes."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot.backbones import Viewed
from fewshot.config import AnyConfig, ExperimentConfig, select_method_options
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError, FewShotError, LeakageError
from fewshot.evaluation.embed import embed
from fewshot.evaluation.rows import UNTRAINED_ROWS, RowKind
from fewshot.experiments.build import build_method, choose_device, load_config, load_split, load_test_sets
from fewshot.methods import Method, find_method
from fewshot.runtime.checkpoint import load_checkpoint, refusing_foreign
from fewshot.training.leakage import ADVICE, Overlap, TrainingSet, find_overlap, read_training_sets
from fewshot.training.run_folder import RunFolder

logger = logging.getLogger(__name__)
PREFIX = "backbone."  # with which names of the backbone's weights begin in a method's state dict


def build_starting_method(
    config: ExperimentConfig, train_set: ImageSet, backbone: str | None = None, *, pretrained: bool = True
) -> Method:
    """Build the configured method as it is before training, with the backbone of `pretrained_run`.

    A method that needs features of the base classes gets them here. `backbone`: name of a backbone to use instead of
    the configured one; `pretrained=False`: keep initial weights. Raises `ConfigError`, `CheckpointError` or
    `LeakageError` for a `pretrained_run` that cannot be used.
    """
    method = build_method(config, train_set.image_shape, backbone)
    if config.pretrained_run and pretrained:
        load_pretrained(method, config)
    elif config.freeze_backbone and pretrained and choose_starting_row(config) == RowKind.UNTRAINED:
        logger.warning(
            "freeze_backbone keeps random initial weights; give published weights by backbone_options (pretrained or "
            "weights), or a pretrained_run"
        )
    if method.needs_base_features:
        if config.max_steps and not method.frozen:
            raise ConfigError(
                f"{config.method} with {config.method_options} uses stored features of the base classes, which would "
                "not match a backbone in training: set max_steps: 0, and give the backbone by pretrained_run"
            )
        features = embed(method.to(choose_device()), train_set, precision=config.precision).values
        method.learn_base_classes(features, torch.from_numpy(train_set.labels).to(features.device))
    return method


def build_compared_methods(method: Method, config: ExperimentConfig, train_set: ImageSet) -> dict[str, Method]:
    """Build the rows of the test table by name: `method` after training, and what it is compared with.

    Each of `test_variants` has the same weights and other options. With `test_floor` there are also: the method before
    its own training (`RowKind.PRETRAINED`), if it started from another run; the method with initial or published
    weights (`UNTRAINED` or `FROZEN`); and the method without a network (`RAW_PIXELS`), if it can do without training.
    If nothing was trained at all, `method` itself is the untrained or frozen row.
    """
    start = choose_starting_row(config)
    rows: dict[str, Method] = {RowKind.TRAINED if config.max_steps or config.pretrained_run else start: method}
    for name, options in config.test_variants.items():
        if name in (*rows, RowKind.PRETRAINED, start, RowKind.RAW_PIXELS):
            raise ConfigError(f"test_variants: {name!r} is a row of every test table already; choose another name")
        varied = replace(config, method_options={**config.method_options, **select_method_options(options)})
        rows[name] = build_method(varied, train_set.image_shape)
        rows[name].load_state_dict(method.state_dict())
    if not config.test_floor:
        return rows
    if config.max_steps and config.pretrained_run:
        rows[RowKind.PRETRAINED] = build_starting_method(config, train_set)
    if start not in rows:
        rows[start] = build_starting_method(config, train_set, pretrained=False)
    if not method.must_be_trained:
        with suppress(ConfigError):  # the options are valid, as `method` has them: pixels do not suit this method
            rows[RowKind.RAW_PIXELS] = build_starting_method(config, train_set, "pixels", pretrained=False)
    return rows


def choose_starting_row(config: AnyConfig) -> RowKind:
    """Choose the row of a method before any training: FROZEN with published weights or raw pixels, else UNTRAINED."""
    nothing_to_train = config.backbone == "pixels" or _from_published(config)
    return RowKind.FROZEN if nothing_to_train else RowKind.UNTRAINED


def find_selected_on(run_dir: str | Path, row: str = RowKind.TRAINED) -> str:
    """Find on what the weights of a run were selected, for the header of its records: "val", or "nothing" and why."""
    folder = RunFolder(run_dir)
    config = load_config(folder)
    pretrained_run = getattr(config, "pretrained_run", None)
    if row in UNTRAINED_ROWS:
        return "nothing"
    if config.max_steps and row != RowKind.PRETRAINED:
        return "val" if folder.best.exists() else "nothing: last step"
    if not pretrained_run:
        return "nothing"
    if not RunFolder(pretrained_run).config.is_file():
        return f"unknown: {pretrained_run} no longer exists"
    return find_selected_on(pretrained_run)


def load_pretrained(method: Method, config: ExperimentConfig) -> None:
    """Load into the method's backbone the weights that validation selected in the run `config.pretrained_run`.

    With `config.pretrained_method` the whole method gets them. Raises `ConfigError` if there is no such run,
    if it has not ended, or if its backbone differs or takes images prepared in another way; `LeakageError` if it was
    trained on validation or test classes of this run.
    """
    folder, run = RunFolder(config.pretrained_run), _load_pretrained_config(config)
    for held_out in (load_split(config, "val"), *load_test_sets(config).values()):
        check_unseen(folder.path, held_out, config.allow_seen_classes)
    if run.backbone != config.backbone:
        raise ConfigError(f"pretrained_run={folder.path} has the backbone {run.backbone}, this run {config.backbone}")
    if _from_published(run) != _from_published(config):
        raise ConfigError(
            f"pretrained_run={folder.path} has backbone_options {run.backbone_options}, this run "
            f"{config.backbone_options}: published weights, and weights trained from them, need images normalised in "
            "their way; give pretrained and weights as in that run"
        )
    last = load_checkpoint(folder.last)
    with refusing_foreign(folder.last, "run"):
        step = int(last["progress"][0])
        weights = load_checkpoint(folder.best)["method"] if folder.best.exists() else last["method"]
    if step < run.max_steps and not (run.patience or run.stop_at_accuracy):
        raise ConfigError(
            f"pretrained_run={folder.path} has not ended: step {step} of {run.max_steps}; continue it with --resume"
        )
    if config.pretrained_method:
        if run.trained_name != config.method:
            raise ConfigError(f"pretrained_run={folder.path} is of {run.trained_name}, this run of {config.method}")
        _check_shapes(method, weights, folder)
        method.load_state_dict(weights)
        return
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items() if name.startswith(PREFIX)}
    backbone = method.backbone
    if isinstance(backbone, Viewed) and not run.backbone_options.get("views"):
        backbone = backbone.source  # that run trained the backbone without views
    _check_shapes(backbone, weights, folder)
    backbone.load_state_dict(weights)


def load_training_sets(run_dir: str | Path) -> list[TrainingSet]:
    """Load what identifies the classes and images that a run, and the runs it starts from, were trained on.

    Run folders of early versions have no such file; the training set itself is then loaded. Raises `LeakageError` if
    that is impossible.
    """
    folder = RunFolder(run_dir)
    stored = read_training_sets(folder)
    if stored is not None:
        return stored
    if not folder.config.is_file():
        raise LeakageError(f"the run {folder.path} no longer exists, so it is unknown what it was trained on")
    config = load_config(folder)
    sets = []
    if config.max_steps or _may_want_base_features(config):
        try:
            sets = [TrainingSet.of(load_split(config, config.train_split))]
        except FewShotError as error:
            reason = f"{folder.path} does not say which images it was trained on, and they cannot be loaded ({error})"
            raise LeakageError(reason) from error
    start = getattr(config, "pretrained_run", None)
    return sets + (load_training_sets(start) if start else [])


def _may_want_base_features(config: AnyConfig) -> bool:
    if not isinstance(config, ExperimentConfig):
        return False
    return find_method(config.method).learn_base_classes is not Method.learn_base_classes


def check_unseen(run_dir: str | Path, test_set: ImageSet, allow_seen_classes: bool) -> Overlap:
    """Check what part of `test_set` a finished run, or one that it starts from, was trained on.

    Raises `LeakageError` if that is a leak or unknown, unless `allow_seen_classes`.
    """
    return _check_overlap(lambda: load_training_sets(run_dir), test_set, allow_seen_classes, str(run_dir))


def check_row_unseen(
    method: Method, config: AnyConfig, train_set: ImageSet, test_set: ImageSet, row: str = RowKind.TRAINED
) -> Overlap:
    """Check what part of `test_set` a row of the test table of run `config` was trained on; `method`: its weights.

    Raises `LeakageError` if that is a leak or unknown, unless `config.allow_seen_classes`.
    """

    def find_training_sets() -> list[TrainingSet]:
        start = getattr(config, "pretrained_run", None)
        sets = load_training_sets(start) if start and row not in UNTRAINED_ROWS else []
        learnt = config.max_steps and row not in (*UNTRAINED_ROWS, RowKind.PRETRAINED)
        return sets + ([TrainingSet.of(train_set)] if learnt or method.needs_base_features else [])

    return _check_overlap(find_training_sets, test_set, config.allow_seen_classes, "this run")


def _check_overlap(sets: Callable[[], list[TrainingSet]], held_out: ImageSet, allowed: bool, who: str) -> Overlap:
    try:
        overlap = find_overlap(sets(), held_out)
    except LeakageError as error:
        overlap = Overlap(held_out.n_classes, len(held_out.images), unknown=str(error))
    if overlap.is_leak and not allowed:
        found = overlap.describe(held_out)
        raise LeakageError(f"{found if overlap.unknown else f'{who} was {found}'}; {ADVICE}")
    if overlap.is_leak or overlap.n_seen_images:
        _warn_once(overlap.describe(held_out) if overlap.unknown else f"{who} was {overlap.describe(held_out)}")
    return overlap


@cache
def _warn_once(text: str) -> None:
    """Warn once: several rows of a table can give the same warning."""
    logger.warning("%s", text)


def _from_published(config: AnyConfig) -> bool:
    return any(config.backbone_options.get(option) for option in ("pretrained", "weights"))


def _load_pretrained_config(config: ExperimentConfig) -> AnyConfig:
    folder = RunFolder(config.pretrained_run)
    if not folder.config.is_file():
        recipe = folder.path.name if folder.path.name.startswith("pretrain") else "pretrain"  # a hint, not a decision
        default_place = folder.path.parts[:1] == ("runs",) and len(folder.path.parts) == 3
        group = folder.path.parent.name if default_place else config.dataset
        raise ConfigError(
            f"pretrained_run={folder.path}: there is no such run; train it first: python scripts/pretrain.py "
            f"--config scripts/recipes/{group}/{recipe}.yaml --run_dir {folder.path}"
        )
    if folder.path.resolve() == Path(config.run_dir or "").resolve():
        raise ConfigError(f"pretrained_run and run_dir are both {folder.path}")
    return load_config(folder)


def _check_shapes(network: nn.Module, weights: dict[str, Any], folder: RunFolder) -> None:
    mine = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = [name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"what pretrained_run={folder.path} holds does not fit this run's: {len(set(differing))} weights "
            f"differ, {name} is {theirs.get(name, 'missing')} there and {mine.get(name, 'missing')} here"
        )
