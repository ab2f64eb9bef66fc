"""A classifier of a user's own images."""

from fewshot.estimator.estimator import FewShotClassifier

__all__ = ["FewShotClassifier"]
