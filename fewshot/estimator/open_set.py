"""How honest probabilities and rejections are: measured on episodes with classes that the classifier does not know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewshot.estimator.confidence import compute_auroc, expected_calibration_error
from fewshot.estimator.estimator import FewShotClassifier
from fewshot.estimator.familiarity import score_known
from fewshot.evaluation.feature_set import FeatureSet
from fewshot.evaluation.statistics import Estimate, mean_interval
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec

N_RESAMPLES = 1000


@dataclass(frozen=True)
class Confidence:
    """Means over episodes with 95% intervals, all fractions; calibration errors are of all episodes' answers together.

    `accuracy`: of images of known classes, where nothing is rejected. `ece_before`, `ece_after`: with temperature 1
    and with the fitted one. `compute_auroc`: of unknown against known images. `false_accept`, `false_reject`: shares of
    unknown and known images that the threshold for `false_accept_rate` gets wrong.
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
    """`FewShotClassifier` on episodes of `n_way` known classes whose queries are also of `n_unknown` others.

    `data`: features, from `embed`; `options`: of the classifier (method, method_options). The episodes are those of
    `n_way + n_unknown` ways: their first classes are the known ones. Temperature and threshold come from each episode's
    support set alone.
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
        row, answer = _measure_episodes(classifier, episode.query[0], truth, truth < n_way)
        rows.append(row)
        answers.append(answer)
    columns = [mean_interval(column) for column in np.array(rows).T]
    before, after, right = (np.stack(part) for part in zip(*answers, strict=True))
    errors = [_measure_calibration(confidence, right, seed) for confidence in (before, after)]
    return Confidence(n_episodes, false_accept_rate, columns[0], *errors, *columns[1:])


def _measure_episodes(
    classifier: FewShotClassifier, queries: Tensor, truth: np.ndarray, known: np.ndarray
) -> tuple[list[float], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(accuracy, AUROC, false accepts, false rejects), and of known images (confidence before, after, right)."""
    logits = classifier.logits(queries.double().numpy())[known]
    right = (logits.argmax(1).numpy() == truth[known]).astype(float)
    before, after = (logits.double().div(t).softmax(1).max(1).values.numpy() for t in (1.0, classifier.temperature_))
    scores = score_known(classifier.fitted_, queries)
    accepted = scores >= classifier.rejection_.threshold
    row = [
        right.mean(),
        compute_auroc(scores[known], scores[~known]),
        accepted[~known].mean(),
        1 - accepted[known].mean(),
    ]
    return row, (before, after, right)


def _measure_calibration(confidence: np.ndarray, right: np.ndarray, seed: int) -> Estimate:
    """Calibration error of all answers together, (n_episodes, n) each; interval by a bootstrap over episodes."""

    def error(which: np.ndarray) -> float:
        sure = confidence[which].ravel()
        two = np.stack([sure, np.zeros_like(sure)], 1)  # the answer is column 0
        return expected_calibration_error(two, 1 - right[which].ravel())

    draw = seeding.numpy_generator(seed, "calibration")
    resampled = [error(draw.integers(0, len(right), len(right))) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(error(np.arange(len(right))), float(high - low) / 2)
