"""Finds the base classes of a run: held-out images of them, and the classifier that tells them apart."""

from dataclasses import replace

import torch

from fewshot.config import AnyConfig, PretrainExperimentConfig
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError, LeakageError
from fewshot.evaluation.base_classes import BaseClasses, ClassMeans
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import load_config, load_run, load_split
from fewshot.experiments.starting import load_training_sets
from fewshot.images.holding_out import hold_out_images
from fewshot.methods import Method
from fewshot.methods.base_classifier import Classifier
from fewshot.training.leakage import TOLERATED_SHARE, find_overlap
from fewshot.training.run_folder import RunFolder

ALIKE = ("dataset", "dataset_options", "train_split", "held_out_images")  # what stage 1 must share


def load_base_classes(config: AnyConfig, method: Method, n_images: int, own_run: str | None = None) -> BaseClasses:
    """Load what `evaluate` asks about the base classes of a run, its training classes.

    The classifier is that of the run which trained the network, where this is one of `fewshot pretrain` on the same
    data; else the distances to the mean features of the training images.

    Args:
        config: of the run.
        method: with the network before any episode.
        n_images: how many are drawn for each episode.
        own_run: the folder of the run itself, where it is finished.

    Raises:
        ConfigError: where the run holds no images out.
        LeakageError: where the network was trained on images that are held out.
    """
    if not config.held_out_images:
        raise ConfigError("this run trained on all images of its classes: none was held out (held_out_images)")
    whole = load_split(replace(config, held_out_images=0, test_base_images=0), config.train_split)
    kept, held = hold_out_images(whole, config.held_out_images)
    trained_by = own_run if isinstance(config, PretrainExperimentConfig) else getattr(config, "pretrained_run", None)
    if trained_by:
        _refuse_seen(trained_by, held)
    if isinstance(method, Classifier):
        return BaseClasses(held, method.classifier, "own classifier", n_images)
    if trained_by and not config.max_steps and _trained_alike(trained_by, config):
        stage_one, _ = load_run(trained_by)
        assert isinstance(stage_one, Classifier), "a run of pretrain holds a classifier"
        return BaseClasses(held, stage_one.classifier, "own classifier", n_images)
    if method.backbone is None:
        raise ConfigError(f"{method.label} has no network here that the base classes could be asked of")
    features = embed(method.backbone, kept, precision=config.precision).values
    labels = torch.from_numpy(kept.labels).to(features.device)
    return BaseClasses(held, ClassMeans(features, labels, kept.n_classes), "class means", n_images)


def _trained_alike(run_dir: str, config: AnyConfig) -> bool:
    """Whether the run is of stage 1, on the same classes and images."""
    run = load_config(RunFolder(run_dir))
    same = all(getattr(run, name) == getattr(config, name) for name in ALIKE)
    return isinstance(run, PretrainExperimentConfig) and same


def _refuse_seen(run_dir: str, held: ImageSet) -> None:
    n_seen = find_overlap(load_training_sets(run_dir), held).n_seen_images
    if n_seen is None or n_seen > TOLERATED_SHARE * len(held):
        raise LeakageError(
            f"{run_dir} was trained on {'an unknown number' if n_seen is None else n_seen} of the {len(held)} images "
            "that are held out here: train it with the same held_out_images"
        )
