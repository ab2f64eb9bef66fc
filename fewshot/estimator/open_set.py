"""Measures calibration and rejection on episodes in which some queries are of classes the classifier does not know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewshot.estimator.confidence import compute_auroc, compute_calibration_error
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.rejection import score_known
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.statistics import Estimate, compute_mean_interval
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Confidence:
    """Means over episodes with 95% intervals, as fractions.

    `accuracy`: of queries of known classes, without rejection. `ece_before`, `ece_after`: calibration error with
    temperature 1 and with the fitted one, over the answers of all episodes together. `auroc`: of known against unknown
    queries. `false_accept`: share of unknown queries accepted at the threshold for `false_accept_rate`;
    `false_reject`: share of known queries rejected.
    """

    n_episodes: int
    false_accept_rate: float
    accuracy: Estimate
    ece_before: Estimate
    ece_after: Estimate
    auroc: Estimate
    false_accept: Estimate
    false_reject: Estimate


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
    **options: Mapping[str, Any],
) -> Confidence:
    """Evaluate `FewShotClassifier` on episodes whose queries come from `n_way` known and `n_unknown` unknown classes.

    `data`: features, from `embed`. `options`: of the classifier (method, method_options). Each episode is drawn with
    `n_way + n_unknown` classes; the classifier is fitted to the support images of the first `n_way`. Temperature and
    threshold come from each episode's support set alone.
    """
    spec = EpisodeSpec(n_way + n_unknown, n_shot, n_query, disjoint_groups=disjoint_groups)
    sampler, rows, answers = EpisodeSampler(data, spec, seed), [], []
    for index in range(n_episodes):
        drawn = sampler.batch(index, 1)
        episode, is_known = drawn.fill(data).to("cpu"), drawn.support_labels[0] < n_way
        labels = episode.support_labels[0][is_known].numpy()
        groups = None if data.groups is None else data.groups[drawn.support[0][is_known].numpy()]
        classifier = FewShotClassifier(None, false_accept_rate=false_accept_rate, **options)
        classifier.fit(episode.support[0][is_known].numpy(), labels, groups)
        truth = episode.query_labels[0].numpy()
        row, answer = _measure_episode(classifier, episode.query[0], truth, truth < n_way)
        rows.append(row)
        answers.append(answer)
    columns = [compute_mean_interval(column) for column in np.array(rows).T]
    before, after, right = (np.stack(part) for part in zip(*answers, strict=True))
    errors = [_measure_calibration(confidence, right, seed) for confidence in (before, after)]
    return Confidence(n_episodes, false_accept_rate, columns[0], *errors, *columns[1:])


def _measure_episode(
    classifier: FewShotClassifier, queries: Tensor, truth: np.ndarray, known: np.ndarray
) -> tuple[list[float], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Measure one episode.

    Returns accuracy, AUROC, false-accept and false-reject rate, and for each query of a known class its confidence
    before and after temperature scaling and whether the answer is right.
    """
    logits = classifier.logits(queries.double().numpy())[known]
    right = (logits.argmax(1).numpy() == truth[known]).astype(float)
    before, after = (logits.double().div(t).softmax(1).max(1).values.numpy() for t in (1.0, classifier.temperature_))
    scores = score_known(classifier.fitted_, classifier.support_, queries)
    accepted = scores >= classifier.rejection_.threshold
    row = [
        right.mean(),
        compute_auroc(scores[known], scores[~known]),
        accepted[~known].mean(),
        1 - accepted[known].mean(),
    ]
    return row, (before, after, right)


def _measure_calibration(confidence: np.ndarray, right: np.ndarray, seed: int) -> Estimate:
    """Compute the calibration error over all answers (n_episodes, n); interval by a bootstrap over episodes."""

    def compute_error(episodes: np.ndarray) -> float:
        sure = confidence[episodes].ravel()
        two = np.stack([sure, np.zeros_like(sure)], 1)  # column 0 is the predicted class, so label 0 means "right"
        return compute_calibration_error(two, 1 - right[episodes].ravel())

    draw = seeding.numpy_generator(seed, "calibration")
    resampled = [compute_error(draw.integers(0, len(right), len(right))) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(compute_error(np.arange(len(right))), float(high - low) / 2)
