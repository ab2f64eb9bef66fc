"""Checks every dictionary of options in a configuration before any data are read."""

from fewshot.backbones.create import check_backbone
from fewshot.config import ExperimentConfig, select_method_options
from fewshot.datasets import DATASETS
from fewshot.experiments.build import AnyConfig
from fewshot.images.augment import make_augmentation
from fewshot.methods import METHODS


def check_options(config: AnyConfig) -> None:
    """Check the names of method, backbone and data sets, and the names and types of their options.

    Raises:
        UnknownNameError: for a name that is not known; the message offers the nearest one.
        ConfigError: for a value of the wrong type; the message names the expected one.
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
        for changes in (config.method_options, *config.test_variants.values()):
            of_method.check(select_method_options(changes))
