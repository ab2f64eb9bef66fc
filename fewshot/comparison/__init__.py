"""Two runs on identical episodes: how much one is better, how sure that is, and on which classes."""

from fewshot.comparison.measuring import compare_runs, measure_classes
from fewshot.comparison.output import default_folder, summary, write
from fewshot.comparison.paired import ClassDifference, Comparison, Measured, compare, holm, sign_test

__all__ = [
    "ClassDifference", "Comparison", "Measured", "compare", "compare_runs", "default_folder", "holm",
    "measure_classes", "sign_test", "summary", "write",
]  # fmt: skip
