"""How far a classifier can be trusted: measured on episodes with classes that it does not know.

Its probabilities, its refusals and their price, and its prediction sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewshot.estimator.confidence import compute_auroc, compute_calibration_error
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.familiarity import score_known
from fewshot.estimator.prediction_sets import choose_sets
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.statistics import Estimate, compute_mean_interval
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Asked:
    """The queries of an episode and what was said of them.

    `logits` (n_known, n_way) and `truth` (n_known,) of images of known classes; `known` (n_known,), `unknown`
    (n_unknown,): scores of `score_known`; `told` (2,): shares of known images refused and of unknown ones accepted, as
    the support alone lets expect; `sets` (n_known, n_way) bool, or None.
    """

    logits: np.ndarray
    truth: np.ndarray
    known: np.ndarray
    unknown: np.ndarray
    temperature: float
    threshold: float
    told: np.ndarray
    sets: np.ndarray | None


@dataclass(frozen=True)
class Confidence:
    """Means over episodes with 95% intervals, all fractions; calibration errors are of all episodes' answers together.

    Attributes:
        values: (n_episodes,) of each quantity: `accuracy` of images of known classes, where nothing is refused; `auroc`
            of known against unknown images; `false_accept`, `false_reject`: shares of unknown and known images that the
            threshold for `false_accept_rate` gets wrong; `oracle_reject`: the latter where each episode's threshold is
            the one that accepts the mean `false_accept` of its unknown images; `accuracy_accepted` of known
            images that are not refused; `told_accept`, `told_reject`: what the support lets expect; `coverage`,
            `set_size` of prediction sets. Without unknown classes, or without sets, those that need them are missing.
        ece_before, ece_after: calibration errors with temperature 1 and with the fitted one.
    """

    false_accept_rate: float
    values: Mapping[str, np.ndarray]
    ece_before: Estimate
    ece_after: Estimate

    @property
    def n_episodes(self) -> int:
        """How many episodes were measured."""
        return len(self.values["accuracy"])

    def __getattr__(self, name: str) -> Estimate:
        """The mean of one of `values` over the episodes in which it is defined."""
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(name)
        return compute_mean_interval(values[name][np.isfinite(values[name])])


def measure_confidence(
    data: FeatureSet,
    n_way: int = 5,
    n_unknown: int = 5,
    n_shot: int = 4,
    n_query: int = 10,
    n_episodes: int = 600,
    seed: int = 0,
    false_accept_rate: float = 0.1,
    disjoint_groups: bool = False,
    coverage: float | None = None,
    queries: FeatureSet | None = None,
    **options: Any,
) -> Confidence:
    """`FewShotClassifier` on episodes of `n_way` known classes whose queries are also of `n_unknown` others.

    `data`: features, from `embed`; `options`: of the classifier (method, method_options). The episodes are those of
    `n_way + n_unknown` ways: their first classes are the known ones. Temperature, threshold and sets come from each
    episode's support set alone. `coverage`: of prediction sets, None: none are made. `queries`: features of the same
    images in another state, blurred for instance, in the place of `data` for queries.
    """
    spec = EpisodeSpec(n_way + n_unknown, n_shot, n_query, disjoint_groups=disjoint_groups)
    sampler, asked = EpisodeSampler(data, spec, seed), []
    refusing = {"false_accept_rate": false_accept_rate} if n_unknown else {}
    for index in range(n_episodes):
        drawn = sampler.batch(index, 1)
        episode, is_known = drawn.fill(data).to("cpu"), drawn.support_labels[0] < n_way
        labels = episode.support_labels[0][is_known].numpy()
        groups = None if data.groups is None else data.groups[drawn.support[0][is_known].numpy()]
        classifier = FewShotClassifier(None, **refusing, **options)
        classifier.fit(episode.support[0][is_known].numpy(), labels, groups)
        query = episode.query[0] if queries is None else queries.gather(drawn.query[0])
        asked.append(_ask(classifier, query, episode.query_labels[0].numpy(), n_way, coverage))
    errors = [_measure_calibration(asked, fitted, seed) for fitted in (False, True)]
    return Confidence(false_accept_rate, _summarise(asked), *errors)


def _ask(
    classifier: FewShotClassifier, queries: Tensor, truth: np.ndarray, n_way: int, coverage: float | None
) -> Asked:
    known, rejection = truth < n_way, classifier.rejection_
    logits = classifier.logits(queries.double().numpy())
    scores, threshold, told = np.zeros(len(truth)), -np.inf, np.full(2, np.nan)
    if rejection is not None:
        evident = classifier.encoder_.method.evidence_in_logits  # then the scores are of these logits
        scores = logits.logsumexp(1).numpy() if evident else score_known(classifier.fitted_, queries)
        threshold, price = rejection.threshold, rejection.scores
        told = np.array([(price.known < threshold).mean(), (price.unknown >= threshold).mean()])
    sets = None
    if coverage is not None:
        bounds = classifier.set_scores_.find_bounds(coverage, n_way)
        sets = choose_sets(classifier.probabilities(logits), bounds)[known]
    return Asked(
        logits.double().numpy()[known], truth[known], scores[known], scores[~known], classifier.temperature_, threshold,
        told, sets,
    )  # fmt: skip


def _summarise(asked: list[Asked]) -> dict[str, np.ndarray]:
    """Each quantity of `Confidence`, (n_episodes,)."""
    right = [a.logits.argmax(1) == a.truth for a in asked]
    values = {"accuracy": np.array([r.mean() for r in right])}
    if len(asked[0].unknown):
        kept = [a.known >= a.threshold for a in asked]
        values["auroc"] = np.array([compute_auroc(a.known, a.unknown) for a in asked])
        values["false_accept"] = np.array([(a.unknown >= a.threshold).mean() for a in asked])
        values["false_reject"] = np.array([1 - k.mean() for k in kept])
        share = 1 - values["false_accept"].mean()
        values["oracle_reject"] = np.array([(a.known < np.quantile(a.unknown, share)).mean() for a in asked])
        values["accuracy_accepted"] = np.array(
            [r[k].mean() if k.any() else np.nan for r, k in zip(right, kept, strict=True)]
        )
        values["told_reject"], values["told_accept"] = np.array([a.told for a in asked]).T
    if asked[0].sets is not None:
        held = [(a.sets, a.truth) for a in asked if a.sets is not None]
        values["coverage"] = np.array([sets[np.arange(len(truth)), truth].mean() for sets, truth in held])
        values["set_size"] = np.array([sets.sum(1).mean() for sets, _ in held])
    return values


def _measure_calibration(asked: list[Asked], fitted: bool, seed: int) -> Estimate:
    """Calibration error of all answers together; interval by a bootstrap over episodes."""
    sure = np.stack([_most(a.logits / (a.temperature if fitted else 1.0)) for a in asked])  # (n_episodes, n)
    right = np.stack([a.logits.argmax(1) == a.truth for a in asked]).astype(float)

    def error(which: np.ndarray) -> float:
        flat = sure[which].ravel()
        two = np.stack([flat, np.zeros_like(flat)], 1)  # the answer is column 0
        return compute_calibration_error(two, 1 - right[which].ravel())

    draw = seeding.numpy_generator(seed, "calibration")
    resampled = [error(draw.integers(0, len(right), len(right))) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(error(np.arange(len(right))), float(high - low) / 2)


def _most(logits: np.ndarray) -> np.ndarray:
    """The greatest softmax probability of each row."""
    return 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
