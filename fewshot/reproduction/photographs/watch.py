"""How often `fewshot monitor` raises a false alarm, and after how many photographs a right one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from fewshot.estimator.drift import DriftReference, Noted
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.familiarity import score_known
from fewshot.estimator.rejection import Rejection
from fewshot.evaluation.embed import embed
from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.images.imageset import ImageSet
from fewshot.images.shifts import SHIFTS, shift_images
from fewshot.photographs.drift.history import History
from fewshot.photographs.drift.verdict import judge
from fewshot.photographs.inspection.intervals import estimate_proportion
from fewshot.reproduction.photographs.sets import EmbeddedSet, draw_folder

N_WAY, N_SHOTS, RATE, FALSE_REJECTS = 5, (4, 10), 0.01, 0.1
BEFORE = (0, 60)  # photographs without a change that come first
N_CLASSES = 16  # at most, those with the most groups
SAME, SKEWED, IN_ORDER, OTHERS = "nothing", "two classes come more often", "group by group", "other classes"


def measure_watch(data: EmbeddedSet, n_repetitions: int) -> list[dict[str, object]]:
    """Draw folders and streams of photographs, and note when an alarm is raised.

    A stream without a shift has all photographs of other groups than the support's. One with a shift has so many
    without it first, then shifted ones, or those of classes that the classifier does not know.
    """
    kept = np.isin(data.labels, _choose_classes(data))
    rows = np.flatnonzero(kept)
    shifted = {name: _embed_shifted(data, name, rows) for name in SHIFTS}
    records = []
    for n_shot in N_SHOTS:
        found: dict[tuple[str, int], dict[str, list]] = {}
        for repetition in range(n_repetitions):
            for (shift, before), outcome in _watch_one(data, rows, shifted, n_shot, repetition):
                held = found.setdefault((shift, before), {key: [] for key in outcome})
                for key, value in outcome.items():
                    held[key].append(value)
        records += [
            {"n_shot": n_shot, "shift": shift, "before": before, **held} for (shift, before), held in found.items()
        ]
    return records


def _choose_classes(data: EmbeddedSet) -> np.ndarray:
    classes = np.unique(data.labels)
    n_groups = np.array([len(np.unique(data.groups[data.labels == c])) for c in classes])
    return classes[np.argsort(-n_groups, kind="stable")[:N_CLASSES]]


def _embed_shifted(data: EmbeddedSet, name: str, rows: np.ndarray) -> dict[int, torch.Tensor]:
    """Features of shifted photographs, by row."""
    numbers = np.unique(data.labels[rows], return_inverse=True)[1]
    names = [str(number) for number in range(numbers.max() + 1)]
    images = shift_images(ImageSet(data.pixels[torch.from_numpy(rows)], numbers, names), name)
    values = embed(data.method, images, precision="auto").values.float()
    return dict(zip(rows.tolist(), values, strict=True))


def _watch_one(data: EmbeddedSet, rows: np.ndarray, shifted: dict, n_shot: int, repetition: int):  # type: ignore[no-untyped-def]
    """Yield what a shift is called and how many come before it, and the outcome, for one drawn folder."""
    rng = np.random.default_rng((repetition, n_shot, 28))
    drawn, labels = draw_folder(_restrict(data, rows), N_WAY, n_shot, rng)
    support = rows[drawn]
    order = data.labels[support[::n_shot]]  # the classes in the order of their labels
    classifier = FewShotClassifier(None, false_reject_rate=FALSE_REJECTS, device="cpu")
    classifier.fit(data.features[support].numpy(), labels.tolist(), data.groups[support].tolist())
    free = rows[~np.isin(data.groups[rows], data.groups[support])]
    mine = rng.permutation(free[np.isin(data.labels[free], order)])
    others = rng.permutation(rows[~np.isin(data.labels[rows], order)])
    answer = _Asked(classifier, data.labels, order)
    reference = answer.reference
    clean, right = answer(data.features[mine], mine)
    places = np.arange(len(mine))
    skewed = places[np.isin(data.labels[mine], rng.permutation(order)[:2]) | (rng.random(len(mine)) < 0.2)]
    grouped = np.argsort(data.groups[mine], kind="stable")
    for name, taken in ((SAME, places), (SKEWED, skewed), (IN_ORDER, grouped)):
        yield (name, 0), _judge(reference, [clean.select(taken)], 0) | {"right": float(right[taken].mean())}
    for name in (*SHIFTS, OTHERS):
        moved = others if name == OTHERS else rng.permutation(mine)
        features = data.features[others] if name == OTHERS else torch.stack([shifted[name][r] for r in moved.tolist()])
        after, right = answer(features, moved)
        for before in BEFORE:
            outcome = _judge(reference, [clean.select(places[:before]), after], min(before, len(places)))
            yield (name, before), outcome | {"right": float(right.mean())}


class _Asked:
    """Asks a classifier: what is noted of each photograph, and whether the answer is right."""

    def __init__(self, classifier: FewShotClassifier, labels: np.ndarray, order: np.ndarray) -> None:
        self.classifier, self.labels = classifier, labels
        self.reference = cast(DriftReference, classifier.find_drift_reference())  # there is one: these are features
        self.threshold = cast(Rejection, classifier.rejection_).threshold
        self.label_of = {c: number for number, c in enumerate(order.tolist())}

    def __call__(self, features: torch.Tensor, rows: np.ndarray) -> tuple[Noted, np.ndarray]:
        asked = self.classifier
        logits, known = asked.logits(features.double().numpy()), score_known(asked.fitted_, features)
        accepted = known >= self.threshold
        truth = np.array([self.label_of.get(c, -1) for c in self.labels[rows].tolist()])
        right = np.where(accepted, logits.argmax(1).numpy(), -1) == truth
        return self.reference.note(asked.probabilities(logits), features.numpy(), known, accepted), right


def _restrict(data: EmbeddedSet, rows: np.ndarray) -> EmbeddedSet:
    return replace(data, rows=data.rows[rows])


def _judge(reference: DriftReference, parts: Sequence[Noted], before: int) -> dict[str, object]:
    """Judge a stream; `photographs` and `refusals`: at which photograph after the change each alarm came, or None.

    `early`: whether one came before it. `n`: photographs after it.
    """
    refused = np.concatenate([part.refused for part in parts if part.refused is not None])
    levels = {name: np.concatenate([part.levels[name] for part in parts]) for name in reference.steps}
    noted = Noted(np.concatenate([part.nearest for part in parts]), refused, levels)
    history = History(
        "measured", (), "", reference.steps, reference.noted, noted, np.zeros(len(noted), "datetime64[m]")
    )
    alarms = {name: test.alarm for name, test in judge(history, RATE).tests.items()}
    early = any(alarm is not None and alarm < before for alarm in alarms.values())
    delays = {name: None if alarm is None or alarm < before else alarm - before + 1 for name, alarm in alarms.items()}
    return {"n": len(noted) - before, "early": int(early), **delays}


def format_watch(records: list[dict]) -> str:
    """Make the table of `measure_watch`'s records."""
    lines = [
        "| data set | shots | what changes | right answers | streams with an alarm | photographs until then | "
        "refusals rise | with 60 unchanged before: alarm | photographs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = {(r["dataset"], r["n_shot"], r["shift"]): r for r in records if r["before"] == 0}
    later = {(r["dataset"], r["n_shot"], r["shift"]): r for r in records if r["before"]}
    for (dataset, n_shot, shift), r in first.items():
        right = compute_mean_interval(100 * np.array(r["right"]))
        cells = [f"{right.mean:.0f} ± {right.half_width_95:.0f}%", *_describe_alarms(r)]
        cells.append(_format_share([delay is not None for delay in r["refusals"]]))
        n_free = np.median(first[dataset, n_shot, SAME]["n"])  # of a stream without a shift
        after = later.get((dataset, n_shot, shift)) if n_free >= max(BEFORE) else None
        cells += ["–", "–"] if after is None else _describe_alarms(after)
        lines.append(f"| {dataset} | {n_shot} | {shift} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_alarms(record: dict) -> list[str]:
    """The share of streams with an alarm, and the median number of photographs until the first one, with quartiles."""
    both = zip(record["photographs"], record["refusals"], strict=True)
    delays = [min((d for d in pair if d is not None), default=None) for pair in both]
    after = np.array([np.inf if delay is None else delay for delay in delays])
    share = _format_share([delay is not None for delay in delays])
    if not np.isfinite(after).any():
        return [share, f"none in {int(np.median(record['n']))}"]
    low, middle, high = (_format_count(q) for q in np.quantile(after, [0.25, 0.5, 0.75], method="higher"))
    return [share, f"{middle} ({low} to {high}) of {int(np.median(record['n']))}"]


def _format_count(value: float) -> str:
    return "∞" if np.isinf(value) else f"{value:.0f}"


def _format_share(happened: Sequence[bool]) -> str:
    found = estimate_proportion(np.array(happened, float), np.ones(len(happened)))
    return f"{found.mean:.1%} ({found.low:.1%} to {found.high:.1%})"
