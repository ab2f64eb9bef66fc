"""Compares two runs on identical episodes: the difference, its significance, and the differences by class."""

from fewshot.reproduction.comparison.measure import compare_runs, measure_classes
from fewshot.reproduction.comparison.output import choose_folder, format_summary, write
from fewshot.reproduction.comparison.paired import (
    ClassDifference,
    Comparison,
    Measured,
    compare,
    holm,
    sign_test,
)

__all__ = [
    "ClassDifference",
    "Comparison",
    "Measured",
    "choose_folder",
    "compare",
    "compare_runs",
    "format_summary",
    "holm",
    "measure_classes",
    "sign_test",
    "write",
]  # fmt: skip
