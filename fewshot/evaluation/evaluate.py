"""The evaluator, used by training and all commands: a method's accuracy on each episode, as records."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.errors import DataError, EpisodeError, TrainingError
from fewshot.evaluation.base_classes import BaseAccuracy, BaseClasses
from fewshot.evaluation.embed import embed, hash_encoder
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.record_header import make_header
from fewshot.evaluation.records import EpisodeRecord, Records
from fewshot.methods import Method, accuracy, negative_log_likelihood
from fewshot.runtime import processes
from fewshot.runtime.devices import device_of
from fewshot.runtime.evaluation_mode import evaluating
from fewshot.runtime.layout import choose_layout
from fewshot.runtime.precision import Precision, autocast, switch_tf32
from fewshot.sampling.episodes import PADDING, Episode, EpisodeSampler, EpisodeSpec

BATCH_NUMBERS = 1 << 22  # bounds memory: feature or pixel values of the episodes in one batch
MOST_EPISODES = 1000  # episodes in one batch
Watch = Callable[[int, Episode, Tensor], None]


@torch.no_grad()
def evaluate(
    method: Method,
    data: ImageSet | FeatureSet,
    spec: EpisodeSpec,
    n_episodes: int = 1000,
    seed: int = 0,
    *,
    precision: Precision = "float32",
    watch: Watch | None = None,
    base: BaseClasses | None = None,
) -> Records:
    """Accuracy and loss of `method` on episodes 0 .. n_episodes-1 of `(data, spec, seed)`.

    The episodes are the same for every method, machine and number of processes, and the same for an image set and for
    features of it. Runs on the method's device, in evaluation mode.

    Args:
        method: what answers the episodes.
        data: images, of which a method that works from features embeds those that occur in any episode, once; or their
            features, from `embed`, which saves even that where several specs are measured.
        spec: ways, shots and queries of an episode.
        n_episodes: how many episodes.
        seed: which episodes.
        precision: what the backbone computes in; heads of features compute in float32 or wider.
        base: held-out images of the base classes, of which some are drawn for each episode and classified by the
            network before and after the episode has adapted it.
        watch: is given each batch of this process: its first index, the episodes and their logits.

    Returns:
        A record of each episode, under a header that says what was measured.

    Raises:
        EpisodeError: where `data` cannot hold such episodes, or none are asked for.
        DataError: for features that another network made.
        ConfigError: for features where the method classifies images; with `base`, for a method that does not report
            the networks that it adapts.
        TrainingError: for logits that are NaN.
    """
    if n_episodes < 1:
        raise EpisodeError(f"n_episodes must be at least 1, got {n_episodes}")
    sampler = EpisodeSampler(data, spec, seed)
    started = time.perf_counter()
    device = device_of(method)
    if isinstance(data, FeatureSet) and data.encoder not in (None, hash_encoder(method)):
        raise DataError(
            f"{data} was computed by another network than this {method.label}'s: embed the images with the method"
        )
    with evaluating(method), choose_layout(method, precision, device), switch_tf32(precision, device):
        if isinstance(data, ImageSet) and method.uses_features:
            data = embed(method, data, _collect_rows(sampler, n_episodes), precision)
        batches = _draw_batches(sampler, data, n_episodes)
        base_accuracy = BaseAccuracy(base, method, seed, precision) if base else None
        mine = [
            _measure(method, first, episode.to(device), seed, precision, watch, base_accuracy)
            for first, episode in batches
        ]
    records = [record for batch in processes.interleave(processes.gather(mine)) for record in batch]
    imageset, computed_in = data, None
    if isinstance(data, FeatureSet):
        imageset, computed_in = data.imageset, data.precision
    header = make_header(method, imageset, spec, seed, n_episodes, precision=computed_in or precision, started=started)
    measured = Records(header, records)
    return measured.add_facts(base_classes=base.describe(*measured.base_shares)) if base else measured


def _collect_rows(sampler: EpisodeSampler, n_episodes: int) -> Tensor:
    """Collect the rows that occur in any of the first `n_episodes` episodes, (n,), ascending."""
    used = torch.zeros(len(sampler.data.labels), dtype=torch.bool)
    for first in range(0, n_episodes, MOST_EPISODES):
        rows = sampler.batch(first, min(MOST_EPISODES, n_episodes - first))
        used[rows.support] = used[rows.query] = True
    return used.nonzero().squeeze(1)


def _draw_batches(
    sampler: EpisodeSampler, data: ImageSet | FeatureSet, n_episodes: int
) -> Iterator[tuple[int, Episode]]:
    """Draw this process's batches of episodes, each with the index of its first episode."""
    one = sampler.batch(0, 1).fill(data)
    count = max(1, min(MOST_EPISODES, BATCH_NUMBERS // (one.support.numel() + one.query.numel())))
    for first in range(0, n_episodes, count)[processes.rank() :: processes.world_size()]:
        yield first, sampler.batch(first, min(count, n_episodes - first)).fill(data)


def _measure(
    method: Method,
    first: int,
    episode: Episode,
    seed: int,
    precision: Precision,
    watch: Watch | None,
    base_accuracy: BaseAccuracy | None,
) -> list[EpisodeRecord]:
    started = time.perf_counter()
    with autocast(precision, device_of(method)):
        logits = method.classify(episode, base_accuracy.watch(first) if base_accuracy else None).float()
    if logits.isnan().any():
        raise TrainingError(f"{type(method).__name__}: logits are NaN in the episodes from {first} on")
    columns = [
        accuracy(logits, episode.query_labels).tolist(),
        negative_log_likelihood(logits, episode.query_labels).tolist(),
        (episode.classes != PADDING).sum(1).tolist(),
        (episode.support_labels != PADDING).sum(1).tolist(),
    ]
    seconds = (time.perf_counter() - started) / len(episode)
    if watch:
        watch(first, episode, logits)
    return [
        EpisodeRecord(
            first + b,
            acc,
            round(loss, 5),
            n_way,
            n_support,
            seed,
            seconds,
            *(base_accuracy.shares(first + b) if base_accuracy else ()),
        )
        for b, (acc, loss, n_way, n_support) in enumerate(zip(*columns, strict=True))
    ]
