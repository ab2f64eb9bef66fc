"""The one evaluator: a method's accuracy on every episode, as records that tables are made from."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fewshot.datasets import ImageSet
from fewshot.errors import TrainingError
from fewshot.evaluation.embed import device_of, embed
from fewshot.evaluation.record_header import make_header
from fewshot.evaluation.records import EpisodeRecord, Records
from fewshot.methods import Method, accuracy, negative_log_likelihood
from fewshot.runtime import processes
from fewshot.runtime.evaluation_mode import evaluating
from fewshot.runtime.layout import running_layout
from fewshot.runtime.precision import Precision, autocast, switch_tf32
from fewshot.sampling.episodes import PADDING, Episode, EpisodeSampler, EpisodeSpec

BATCH_NUMBERS = 1 << 22  # feature or pixel values gathered at once: a bound on memory
Watch = Callable[[int, Episode, Tensor], None]


@torch.no_grad()
def evaluate(
    method: Method,
    imageset: ImageSet,
    spec: EpisodeSpec,
    n_episodes: int = 1000,
    seed: int = 0,
    *,
    precision: Precision = "float32",
    features: Tensor | None = None,
    watch: Watch | None = None,
) -> Records:
    """Accuracy and loss of `method` on episodes 0 .. n_episodes-1 of `(imageset, spec, seed)`.

    The episodes are the same for every method, machine and number of processes. A method that works
    from features has each image embedded once; `features` (len(imageset), D), from `embed`, saves
    even that where several specs are measured. Runs on the method's device, in evaluation mode.
    `watch` is given each batch of this process: its first index, the episodes and their logits.
    """
    sampler = EpisodeSampler(imageset, spec, seed)
    started = time.perf_counter()
    device = device_of(method)
    with evaluating(method), running_layout(method, precision, device), switch_tf32(precision, device):
        source = _Source(method, sampler, n_episodes, precision, features)
        mine = [_measure(method, episode, first, seed, precision, watch) for first, episode in source]
    records = [record for batch in processes.interleaved(processes.gathered(mine)) for record in batch]
    header = make_header(method, imageset, spec, seed, n_episodes, precision=precision, started=started)
    return Records(header, records)


class _Source:
    """This process's batches of episodes, as (first index, episodes that carry features or images)."""

    def __init__(
        self, method: Method, sampler: EpisodeSampler, n_episodes: int, precision: Precision, features: Tensor | None
    ) -> None:
        self.method, self.sampler, self.n_episodes = method, sampler, n_episodes
        self.features, self.position = features, None
        one = sampler.batch(0, 1)
        images = one.support.shape[1] + one.query.shape[1]
        width = torch.Size(sampler.imageset.image_shape).numel()
        if method.from_features and features is None:
            self.features, self.position = self._embedded(precision)
        if self.features is not None:
            width = self.features[0].numel()
        self.batch_episodes = max(1, min(1000, BATCH_NUMBERS // (images * width)))

    def _embedded(self, precision: Precision) -> tuple[Tensor, Tensor]:
        """Features of the rows that occur in any episode, and where each row of the set is among them."""
        used = torch.zeros(len(self.sampler.imageset), dtype=torch.bool)
        for first in range(0, self.n_episodes, 1000):
            episode = self.sampler.batch(first, min(1000, self.n_episodes - first))
            used[episode.support] = used[episode.query] = True
        rows = used.nonzero().squeeze(1)
        return embed(self.method, self.sampler.imageset, rows, precision), used.cumsum(0) - 1

    def __iter__(self) -> Iterator[tuple[int, Episode]]:
        starts = range(0, self.n_episodes, self.batch_episodes)
        for first in starts[processes.rank() :: processes.world_size()]:
            episode = self.sampler.batch(first, min(self.batch_episodes, self.n_episodes - first))
            yield first, self._filled(episode).to(device_of(self.method))

    def _filled(self, episode: Episode) -> Episode:
        if self.features is None:
            return self.sampler.images(episode)
        return (episode if self.position is None else episode.with_values(self.position)).with_values(self.features)


def _measure(
    method: Method, episode: Episode, first: int, seed: int, precision: Precision, watch: Watch | None
) -> list[EpisodeRecord]:
    started = time.perf_counter()
    if method.from_features:  # in float32, as in `forward`
        logits = method.head(episode.support, episode.support_labels, episode.query, episode.n_way)
    else:
        with autocast(precision, device_of(method)):
            logits = method.classify(episode).float()
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
        EpisodeRecord(first + b, acc, round(loss, 5), n_way, n_support, seed, seconds)
        for b, (acc, loss, n_way, n_support) in enumerate(zip(*columns, strict=True))
    ]
