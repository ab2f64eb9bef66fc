"""The rows of a test table, by the weights that they measure."""

from enum import StrEnum


class RowKind(StrEnum):
    """The rows that a run measures, besides those that its `test_variants` name."""

    TRAINED = "trained"
    """the method after training, or on the backbone of a pretrained run"""
    PRETRAINED = "pretrained"
    """the method before its own training, on the backbone of a pretrained run"""
    UNTRAINED = "untrained"
    """the method on initial weights"""
    FROZEN = "frozen"
    """the method on published weights, which no run has trained, or on the backbone `pixels`, which has none"""
    RAW_PIXELS = "raw pixels"
    """the method without a network"""
    CLASSIFIER = "classifier-baseline"
    """a classifier of stage 1, by the cosine to the mean of each class's support features"""


UNTRAINED_ROWS = (RowKind.UNTRAINED, RowKind.FROZEN, RowKind.RAW_PIXELS)  # weights that no run has trained
