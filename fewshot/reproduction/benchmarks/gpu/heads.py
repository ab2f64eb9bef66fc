"""Evaluation, heads and a person's photographs on a GPU."""

import tempfile
from pathlib import Path

import torch

from fewshot.backbones import create_backbone
from fewshot.datasets import load_dataset
from fewshot.evaluation.evaluate import evaluate
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks import heads
from fewshot.reproduction.benchmarks.estimator import measure_photographs_per_second
from fewshot.reproduction.benchmarks.gpu.steps import Numbers, find_feature_dim
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSpec

FEATURE_METHODS = ("protonet", "matching", "meta-baseline", "r2d2", "simpleshot", "nearest")
N_PHOTOGRAPHS = 2000


def measure_evaluation(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Episodes/s of each method that works from features, 5-way 5-shot 15-query, embedding included."""
    test_set, n_episodes = load_dataset("glyphs", "test"), 20 if dry else 10_000
    rates: Numbers = {}
    for name in FEATURE_METHODS:
        with seeding.fork(0):
            method = create_method(name, create_backbone("conv4", 1, 28)).to(device)
        if method.needs_base_features:
            base = torch.ones(2, find_feature_dim(method), device=device)
            method.learn_base_classes(base, torch.arange(2, device=device))

        def run(method: Method = method) -> None:
            evaluate(method, test_set, EpisodeSpec(5, 5, 15), n_episodes, precision="auto")

        rates[name] = n_episodes / measure_median_seconds(run, 1 if dry else 3, warmup=0 if dry else 1)
    return rates


def measure_heads(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Milliseconds an episode of heads that are fitted, 5-way 5-shot, 512 features."""
    few = {"n_ours": 10} if dry else {}
    faithful = heads.measure_faithful_sgd(n_literal=1, device=device, **few)
    logistic = heads.measure_logistic(n_sklearn=2 if dry else 20, device=device, **few)
    return {"Baseline, the authors' SGD": faithful, "logistic regression": logistic}


def measure_photographs(device: torch.device, out: Path, dry: bool) -> Numbers:
    """Photographs/s that the estimator predicts (EfficientNet-Lite0, weights without meaning), and decodes alone."""
    with tempfile.TemporaryDirectory(prefix="fewshot-") as folder:
        return measure_photographs_per_second(Path(folder), 8 if dry else N_PHOTOGRAPHS)
