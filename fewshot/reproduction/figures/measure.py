"""Measures the curves of runs that have ended: embeds the images once, then evaluates each number of shots and ways."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewshot.config import AnyConfig
from fewshot.datasets import ImageSet
from fewshot.errors import ConfigError, EpisodeError, LeakageError
from fewshot.experiments.build import choose_device, load_run, load_split, measure
from fewshot.experiments.starting import check_unseen
from fewshot.methods import Method
from fewshot.reproduction.figures.curves import CELLS, N_QUERY, Curves, Point, find_curves_file
from fewshot.reproduction.runs import Run
from fewshot.runtime.precision import resolve
from fewshot.runtime.provenance import hash_weights
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec
from fewshot.training.leakage import Overlap

NOT_KEPT = {"spec", "config", "seconds", "embedding_seconds", "commit"}  # fields of record headers


def find_seeds(out: Path) -> list[int]:
    """Find the training seeds of the runs in a folder; 0 if there are none."""
    names = (path.name.rpartition("-seed")[2] for path in out.glob("*-seed*"))
    return sorted({int(name) for name in names if name.isdecimal()}) or [0]


def measure_curves(runs: Sequence[Run], results: Path, n_episodes: int, n_slow: int) -> None:
    """Measure the points that `results` lacks of the runs that have ended, and print what cannot be measured.

    For each recipe, the lowest seed that has ended is measured. Each point is the mean of `n_episodes` episodes, or of
    `n_slow` if the method runs its network in every episode instead of once for each image.
    """
    done: set[str] = set()
    for run in sorted(runs, key=lambda run: run.config.seed):
        if run.name in done or not run.complete:
            continue
        try:
            run.check()
            _measure_run(run, results, n_episodes, n_slow)
        except (ConfigError, LeakageError) as error:
            print(f"{run.title}: not measured: {error}", flush=True)
            continue
        done.add(run.name)
    left = dict.fromkeys(run.name for run in runs if run.name not in done)
    if left:
        print(f"not measured, since no run of the recipe as it is now has ended: {', '.join(left)}", flush=True)


def _measure_run(run: Run, results: Path, n_episodes: int, n_slow: int) -> None:
    started, path = time.perf_counter(), find_curves_file(results, run.name, run.config.seed)
    method, config = load_run(run.folder.path)
    test_set, method = load_split(config, "test"), method.to(choose_device())
    overlap = check_unseen(run.folder.path, test_set, config.allow_seen_classes)
    config = replace(config, test_episodes=n_episodes if method.uses_features else n_slow)
    header = {"method": type(method).__name__, "dataset": test_set.name, "split": test_set.split,
              "data_fingerprint": test_set.fingerprint, "weights": hash_weights(method),
              "precision": resolve(config.precision, choose_device()), "transductive": method.transductive,
              "seed": config.test_seed, "n_episodes": config.test_episodes, "n_query": N_QUERY}  # fmt: skip
    held = Curves.read(path) if path.exists() else None
    empty = Curves(run.name, run.config.seed, header, [], {})
    curves = held if held and held.identity == empty.identity else empty
    specs, missing = list_possible(method, test_set)
    known = {point.cell for point in curves.points}
    wanted = [spec for spec in specs if (spec.n_way, spec.n_shot) not in known]
    if wanted or missing != curves.missing:
        curves = replace(_add_points(curves, method, test_set, wanted, config, run, overlap), missing=missing)
        curves.write(path)
    seconds = f"{len(wanted)} points in {time.perf_counter() - started:.0f} s" if wanted else "had been measured"
    print(f"{run.title}: {seconds}", flush=True)
    for why in dict.fromkeys(missing.values()):
        print(f"  without {', '.join(cell for cell, reason in missing.items() if reason == why)}: {why}", flush=True)


def list_possible(method: Method, test_set: ImageSet) -> tuple[list[EpisodeSpec], dict[str, str]]:
    """List the points that can be measured, and why others cannot: a fixed way, or too few images or classes."""
    specs, missing = [], {}
    fixed_way = getattr(method, "n_way", None)
    for way, shot in CELLS:
        spec = EpisodeSpec(way, shot, N_QUERY)
        if fixed_way not in (None, way):
            missing[f"{way}-way {shot}-shot"] = f"it was trained for {fixed_way}-way episodes alone"
            continue
        try:
            EpisodeSampler(test_set, spec)
            specs.append(spec)
        except EpisodeError as error:
            missing[f"{way}-way {shot}-shot"] = str(error)
    return specs, missing


def _add_points(
    curves: Curves,
    method: Method,
    test_set: ImageSet,
    specs: list[EpisodeSpec],
    config: AnyConfig,
    run: Run,
    overlap: Overlap,
) -> Curves:
    chosen_on = run.records(run.own_row)[0].header.value("selected_on")
    records = measure(method, test_set, specs, config, chosen_on, (), overlap) if specs else []
    points = [
        Point(r.header.spec["n_way"], r.header.spec["n_shot"], round(r.mean, 6), round(r.half_width_95, 6),
              r.header.commit)
        for r in records
    ]  # fmt: skip
    facts = {key: value for key, value in records[0].header.as_dict().items() if key not in NOT_KEPT} if records else {}
    points = sorted([*curves.points, *points], key=lambda point: point.cell)
    return replace(curves, header={**curves.header, **facts}, points=points)
