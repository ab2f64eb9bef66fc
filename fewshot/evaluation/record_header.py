"""The header of records: what was measured, on which episodes and by what; and whether two records are comparable."""

import time
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from fewshot.config import Count
from fewshot.datasets import ImageSet
from fewshot.evaluation.embed import device_of
from fewshot.methods import Method
from fewshot.registry import describe_type, fits
from fewshot.runtime.memory import measure_peak_mib
from fewshot.runtime.precision import Precision, resolve
from fewshot.runtime.provenance import collect_provenance, hash_weights
from fewshot.sampling.episodes import EpisodeSpec

EPISODES = ("split", "seed", "n_episodes", "spec")  # the fields that determine the episodes of an image set


@dataclass(frozen=True, kw_only=True)
class RecordHeader:
    """What was measured, on which data and by what code. None: not recorded, as in files of early versions."""

    spec: dict[str, Any]
    """`EpisodeSpec` as a dictionary"""
    seed: int
    """of the episodes"""
    n_episodes: int
    method: str
    """name of the class"""
    transductive: bool
    dataset: str
    split: str | None = None
    data_fingerprint: str
    weights: str
    """hash of all parameters and buffers"""
    precision: str
    seconds: float
    """duration of the evaluation, including the embedding if the evaluator did it"""
    peak_mib: float | None = None
    """peak memory of the whole process so far"""
    commit: str
    command: str
    versions: dict[str, str]
    hardware: str | None = None
    plugins: dict[str, str] | None = None
    """digests of the files that were loaded as plugins"""
    n_trainable: dict[str, int] | None = None
    """for methods that adapt weights: how many weights of network and head each episode adapts"""
    base_classes: dict[str, Any] | None = None
    """what adapting costs the base classes: see `evaluation.base_classes.BaseClasses.describe`"""
    embedding_seconds: float | None = None
    """duration of the embedding, which all cells share"""
    selected_on: str | None = None
    """what chose the weights: "val", or "nothing" and why"""
    config: dict[str, Any] | None = None
    """the configuration of the run"""
    seen_classes: int | None = None
    """test classes that the weights were trained on"""
    seen_images: int | None = None
    """test images that the weights were trained on"""
    seen_mark: str | None = None
    """how tables mark such a row beside its name; empty if nothing leaked"""
    run: str | None = None
    """folder of the run, in comparisons"""

    def as_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for a file, without the fields that are None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def value(self, name: str) -> Any:
        """The value of a field for a table; "unknown" if it was not recorded."""
        value = getattr(self, name)
        return "unknown" if value is None else value


def read_header(values: Any) -> RecordHeader:
    """The header that a file holds; raises `TypeError` for values that are not those of one."""
    header = RecordHeader(**values)
    for name, kind in get_type_hints(RecordHeader).items():
        if not fits(getattr(header, name), kind):
            raise TypeError(f"{name} must be {describe_type(kind)}, got {str(getattr(header, name))[:100]!r}")
    bad = [name for name in ("n_way", "n_shot", "n_query") if not fits(header.spec.get(name), Count)]
    if bad:
        raise TypeError(f"spec must have numbers, or ranges of two, as {', '.join(bad)}")
    return header


def make_header(
    method: Method,
    imageset: ImageSet,
    spec: EpisodeSpec,
    seed: int,
    n_episodes: int,
    *,
    precision: Precision,
    started: float,
) -> RecordHeader:
    """Make the header of an evaluation that began at `started` (`time.perf_counter`) and ends now."""
    count = getattr(method, "count_trainable", None) if isinstance(spec.n_way, int) else None
    return RecordHeader(
        spec=spec.as_dict(),
        seed=seed,
        n_episodes=n_episodes,
        method=type(method).__name__,
        transductive=method.transductive,
        dataset=imageset.name,
        split=imageset.split,
        data_fingerprint=imageset.fingerprint,
        weights=hash_weights(method),
        precision=resolve(precision, device_of(method)),
        seconds=round(time.perf_counter() - started, 3),
        peak_mib=measure_peak_mib(),
        n_trainable=count(spec.n_way) if count else None,
        **collect_provenance(),
    )


def same_episodes(a: RecordHeader, b: RecordHeader, *, same_pixels: bool = True) -> bool:
    """Whether two measurements may be compared episode by episode.

    Args:
        a: of the one measurement.
        b: of the other.
        same_pixels: also ask for the same images; False where the two prepare the same images in other ways, such as
            another size, and the caller has made sure of that.
    """
    return not find_episode_differences(a, b, same_pixels=same_pixels)


def find_episode_differences(
    a: RecordHeader, b: RecordHeader, *, same_pixels: bool = True
) -> dict[str, tuple[Any, Any]]:
    """Find why two measurements are not comparable: the names of differing fields, each with both values."""
    names = (*(["data_fingerprint"] if same_pixels else []), *EPISODES)
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
