"""A classifier of a user's own images."""

from fewshot.classifier.estimator import FewShotClassifier

__all__ = ["FewShotClassifier"]
