"""Fine-tuning: adapt a copy of the backbone to each support set, in one of nine modes."""

from fewshot.methods.finetune.fitted import FittedClassifier
from fewshot.methods.finetune.method import FineTune
from fewshot.methods.finetune.options import MODES

__all__ = ["MODES", "FineTune", "FittedClassifier"]
