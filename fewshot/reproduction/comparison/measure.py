"""Loads two runs, checks that they can be measured on the same episodes, and measures them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewshot.config import CompareConfig, as_dict
from fewshot.datasets import ImageSet
from fewshot.errors import DataError
from fewshot.evaluation.evaluate import evaluate
from fewshot.experiments.build import choose_device, load_run, load_split
from fewshot.experiments.starting import check_unseen, find_selected_on
from fewshot.methods import Method
from fewshot.reproduction.comparison.paired import Comparison, Measured, compare
from fewshot.runtime import processes
from fewshot.runtime.precision import Precision
from fewshot.sampling.episodes import PADDING, Episode, EpisodeSpec


def compare_runs(config: CompareConfig) -> Comparison:
    """Measure the runs `config.run_a` and `config.run_b` on the same episodes.

    The runs may prepare the images differently, for instance at another size; raises `DataError` unless they have the
    same images of the same classes.
    """
    device, names = choose_device(), name_distinctly(config.run_a, config.run_b)
    folders = [config.run_a, config.run_b]
    methods, runs = zip(*map(load_run, folders), strict=True)
    runs = [config.applied_to(run) for run in runs]
    sets = [load_split(run, config.split) for run in runs]
    spec = EpisodeSpec(config.n_way, config.n_shot, config.n_query, config.disjoint_groups)
    check_same_rows(sets[0], sets[1], names, groups=spec.disjoint_groups)
    pairs = zip(folders, sets, strict=True)
    overlaps = [check_unseen(folder, imageset, config.allow_seen_classes) for folder, imageset in pairs]
    measured = []
    for folder, method, run, imageset, overlap in zip(folders, methods, runs, sets, overlaps, strict=True):
        method.to(device)
        one = measure_classes(method, imageset, spec, config.n_episodes, config.seed, precision=config.precision)
        facts = {"run": folder, "selected_on": find_selected_on(folder), "config": as_dict(run), **overlap.header}
        measured.append(replace(one, records=one.records.add_facts(**facts)))
    return compare(measured[0], measured[1], sets[0].class_names, names)


def measure_classes(
    method: Method,
    imageset: ImageSet,
    spec: EpisodeSpec,
    n_episodes: int = 1000,
    seed: int = 0,
    *,
    precision: Precision = "float32",
) -> Measured:
    """Evaluate a method, and also measure the accuracy on each class of each episode."""
    mine: list[tuple[np.ndarray, np.ndarray]] = []

    def watch(first: int, episode: Episode, logits: Tensor) -> None:
        mine.append((episode.classes.cpu().numpy(), measure_class_accuracy(logits, episode.query_labels).cpu().numpy()))

    records = evaluate(method, imageset, spec, n_episodes, seed, precision=precision, watch=watch)
    batches = processes.interleave(processes.gather(mine))
    classes, accuracy = (np.concatenate(part) for part in zip(*batches, strict=True))
    return Measured(records, classes, accuracy)


def measure_class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Measure the accuracy on the queries of each class, (B, n_way) float64, NaN for a class without queries.

    `logits` (B, n_query, n_way); `labels` (B, n_query), -1 for padding.
    """
    right = (logits.argmax(-1) == labels).double()  # (B, n_query)
    member = torch.nn.functional.one_hot(labels - PADDING, logits.shape[-1] + 1)[..., 1:].double()  # (B, n_query, way)
    return torch.einsum("bq,bqw->bw", right, member) / member.sum(1)


def check_same_rows(a: ImageSet, b: ImageSet, names: tuple[str, str], *, groups: bool = False) -> None:
    """Raise `DataError` unless row r shows the same image of the same class in both sets, perhaps at another size.

    `groups`: they must also have the same groups, from which episodes with disjoint groups are drawn.
    """
    if a.fingerprint == b.fingerprint:
        return
    problem = _describe_difference(a, b)
    if not problem and groups and not np.array_equal(a.groups, b.groups):
        problem = "their groups differ, and disjoint_groups draws by them"
    if problem:
        raise DataError(f"{names[0]} and {names[1]} cannot be measured on the same episodes: {problem}")


def _describe_difference(a: ImageSet, b: ImageSet) -> str:
    """Describe how the rows of two image sets differ, apart from their pixels; empty if they do not."""
    if (a.name, a.split) != (b.name, b.split):
        return f"one has {a}, the other {b}; name one data set for both with --dataset"
    where = f"of {a.name}/{a.split}"
    if a.class_names != b.class_names:
        one_sided = sorted(set(a.class_names) ^ set(b.class_names))
        which = f"only one has {', '.join(one_sided[:5])}" if one_sided else "their order differs"
        return f"one has {a.n_classes} classes {where}, the other {b.n_classes}; {which}"
    unequal = np.flatnonzero(a.class_counts != b.class_counts)
    if len(unequal):
        c = unequal[0]
        return (
            f"one has {len(a)} images {where}, the other {len(b)}; of {a.class_names[c]}, for instance, "
            f"{a.class_counts[c]} and {b.class_counts[c]}"
        )
    return "" if np.array_equal(a.labels, b.labels) else f"their images {where} come in different orders"


def name_distinctly(run_a: str | Path, run_b: str | Path) -> tuple[str, str]:
    """Name two paths by as many of their last parts as distinguish them (one part if the paths are equal)."""
    a, b = Path(run_a).resolve().parts, Path(run_b).resolve().parts
    n = next((n for n in range(1, max(len(a), len(b)) + 1) if a[-n:] != b[-n:]), 1)
    return "/".join(a[-n:]), "/".join(b[-n:])
