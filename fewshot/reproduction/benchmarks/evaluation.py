"""Measures the speed of evaluation, in comparison with easyfsl, and of each method on frozen features."""

import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from fewshot.datasets import ImageSet
from fewshot.evaluation.embed import embed
from fewshot.evaluation.evaluate import evaluate
from fewshot.methods import Method, create_method
from fewshot.reproduction.benchmarks.timing import measure_median_seconds
from fewshot.runtime.layout import channels_last
from fewshot.sampling.episodes import EpisodeSpec

FROZEN: list[tuple[str, dict[str, Any]]] = [
    ("protonet", {}), ("matching", {}), ("meta-baseline", {}), ("simpleshot", {"transform": "L2N"}), ("r2d2", {}),
    ("nearest", {}), ("anil", {"feature_dim": 64, "inner_steps": 5}),
    ("baseline", {"solver": "logistic"}), ("baseline", {"solver": "faithful"}),
    ("baseline++", {"solver": "logistic"}), ("baseline++", {"solver": "faithful"}),
]  # fmt: skip


def measure_evaluation(method: Method, test_set: ImageSet, n_ours: int, n_theirs: int) -> dict[str, float]:
    """Measure the episodes per second of our evaluator, embedding included, and of easyfsl's sampler and loop.

    easyfsl is measured with the same weights in plain layers, as its users write a Conv-4, and also with our faster
    backbone (channels-last, batch normalisation folded).
    """
    spec = EpisodeSpec(5, 1, 15)
    ours = n_ours / measure_median_seconds(lambda: evaluate(method, test_set, spec, n_ours, precision="auto"), 3)
    mean = evaluate(method, test_set, spec, n_theirs, precision="auto").mean
    measure_easyfsl(method.backbone, test_set, spec, 10)  # warm-up
    theirs, their_mean = measure_easyfsl(copy_plain_layers(method.backbone), test_set, spec, n_theirs)
    with channels_last(method):
        with_ours, _ = measure_easyfsl(method.backbone, test_set, spec, n_theirs)
    return {
        "ours": ours, "easyfsl": theirs, "ratio": ours / theirs, "easyfsl, our backbone": with_ours,
        "ratio, our backbone": ours / with_ours, "accuracy": mean, "easyfsl_accuracy": their_mean,
    }  # fmt: skip


def copy_plain_layers(backbone: nn.Module) -> nn.Module:
    """Copy the layers of a `ConvNet` backbone into a plain sequence, in contiguous memory format."""
    layers = [layer for block in copy.deepcopy(backbone.body).blocks for layer in block]
    return nn.Sequential(*layers, nn.Flatten()).to(memory_format=torch.contiguous_format)


def measure_easyfsl(backbone: nn.Module, test_set: ImageSet, spec: EpisodeSpec, n_episodes: int) -> tuple[float, float]:
    """Episodes per second and accuracy of easyfsl 1.5.0's TaskSampler and evaluate on the same network and images."""
    from easyfsl.methods import PrototypicalNetworks
    from easyfsl.samplers import TaskSampler
    from easyfsl.utils import evaluate as easyfsl_evaluate

    images = _Items(test_set)
    with _lenient_sampler():
        sampler = TaskSampler(images, spec.n_way, spec.n_shot, spec.n_query, n_episodes)
        loader = DataLoader(images, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    classifier = PrototypicalNetworks(backbone.eval()).eval()
    started = time.perf_counter()
    accuracy = easyfsl_evaluate(classifier, loader, device="cpu", use_tqdm=False)
    return n_episodes / (time.perf_counter() - started), accuracy


class _Items(Dataset):
    """An image set in the form that easyfsl needs: float images one by one, and all labels in a list."""

    def __init__(self, imageset: ImageSet) -> None:
        self.imageset = imageset

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.imageset.gather(torch.tensor(row)).float() / 255, int(self.imageset.labels[row])

    def __len__(self) -> int:
        return len(self.imageset)

    def get_labels(self) -> list[int]:
        return self.imageset.labels.tolist()


@contextlib.contextmanager
def _lenient_sampler() -> Iterator[None]:
    """Let PyTorch's Sampler accept the argument that easyfsl 1.5.0 still passes to it."""
    initial = Sampler.__init__
    Sampler.__init__ = lambda self, *arguments, **options: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sampler.__init__ = initial  # type: ignore[method-assign]


def measure_frozen_methods(method: Method, imageset: ImageSet, n_episodes: int) -> dict[str, dict[str, float]]:
    """Measure how fast each method on frozen features is evaluated, 5-way 5-shot: seconds, episodes per second.

    The backbone of `method` embeds `imageset` once for all of them; the time of drawing episodes is included.
    """
    started = time.perf_counter()
    data = embed(method, imageset, precision="auto")
    rows = {"one pass of the backbone": {"images": len(data), "seconds": time.perf_counter() - started}}
    for name, options in FROZEN:
        head = create_method(name, None, **options).to(data.values.device)
        records = evaluate(head, data, EpisodeSpec(5, 5, 15), n_episodes)
        label = ", ".join([name, *(str(value) for key, value in options.items() if key in ("solver", "transform"))])
        seconds = records.header.seconds
        rows[label] = {"seconds": seconds, "episodes/s": n_episodes / seconds, "accuracy": records.mean}
    return rows
