"""Two runs on identical episodes: how much one is better, how sure that is, and on which classes."""

from fewshot.reproduction.comparison.measure import compare_runs, measure_classes
from fewshot.reproduction.comparison.output import default_folder, summary, write
from fewshot.reproduction.comparison.paired import ClassDifference, Comparison, Measured, compare, holm, sign_test

__all__ = [
    "ClassDifference", "Comparison", "Measured", "compare", "compare_runs", "default_folder", "holm",
    "measure_classes", "sign_test", "summary", "write",
]  # fmt: skip
