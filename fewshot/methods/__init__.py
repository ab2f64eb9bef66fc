"""Methods: one file each; importing this package registers them."""

from fewshot.methods import prototypical as prototypical
from fewshot.methods.base import METHODS, Method, accuracy, create_method, list_methods, negative_log_likelihood

__all__ = ["METHODS", "Method", "accuracy", "create_method", "list_methods", "negative_log_likelihood"]
