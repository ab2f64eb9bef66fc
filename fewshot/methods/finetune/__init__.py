"""Fine-tuning: a copy of the backbone is adapted to each support set, in one of nine ways."""

from fewshot.methods.finetune.fitted import FittedClassifier
from fewshot.methods.finetune.method import FineTune
from fewshot.methods.finetune.options import MODES

__all__ = ["MODES", "FineTune", "FittedClassifier"]
