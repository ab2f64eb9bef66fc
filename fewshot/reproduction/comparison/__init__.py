"""Compares two runs on identical episodes: the difference, its significance, and the differences by class."""

from fewshot.reproduction.comparison.measure import compare_runs, measure_classes
from fewshot.reproduction.comparison.output import choose_folder, format_summary, write
from fewshot.reproduction.comparison.paired import (
    ClassDifference,
    Comparison,
    Measured,
    adjust_by_holm,
    compare,
    compute_sign_test,
)

__all__ = [
    "ClassDifference",
    "Comparison",
    "Measured",
    "adjust_by_holm",
    "choose_folder",
    "compare",
    "compare_runs",
    "compute_sign_test",
    "format_summary",
    "measure_classes",
    "write",
]  # fmt: skip
