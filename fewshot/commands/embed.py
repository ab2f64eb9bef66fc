"""`fewshot embed`: writes the features of a data set to a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.config import ExperimentConfig, MeasureConfig
from fewshot.config.reproduction import EmbedConfig
from fewshot.datasets import ImageSet
from fewshot.evaluation.embed import embed
from fewshot.experiments.build import build_method, choose_device, load_run, load_split
from fewshot.experiments.options import check_options
from fewshot.methods import Method
from fewshot.runtime import processes
from fewshot.runtime.files import check_writable, replacing


def run(config: EmbedConfig) -> None:
    """Write the features of a data set to a file.

    Args:
        config: the options of the subcommand.
    """
    check_writable(config.out)
    method, imageset = _load(config)
    method = method.to(choose_device())
    network = method if method.uses_features or method.backbone is None else method.backbone
    features = embed(network, imageset, precision=config.precision).values.cpu().numpy()
    if processes.is_first():
        path = Path(config.out)
        groups: dict[str, Any] = {} if imageset.groups is None else {"groups": imageset.groups}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, features=features, labels=imageset.labels, class_names=imageset.class_names, **groups)
        print(f"{imageset}: features {features.shape}\nwritten: {path}")


def _load(config: EmbedConfig) -> tuple[Method, ImageSet]:
    """Load the network, as part of a method, and the images."""
    of_data = MeasureConfig(dataset_options=config.dataset_options, data_root=config.data_root, split=config.split)
    if config.run_dir:
        method, trained = load_run(config.run_dir)
        return method, load_split(replace(of_data, dataset=config.dataset).applied_to(trained), config.split)
    untrained = ExperimentConfig(
        dataset=config.dataset or "glyphs", backbone=config.backbone, backbone_options=config.backbone_options
    )
    untrained = of_data.applied_to(untrained)
    check_options(untrained)
    imageset = load_split(untrained, config.split)
    return build_method(untrained, imageset.image_shape), imageset
