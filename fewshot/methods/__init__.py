"""Methods, one file each; importing this package registers them."""

from fewshot.methods import aligned as aligned
from fewshot.methods import anil as anil
from fewshot.methods import baseline as baseline
from fewshot.methods import finetune as finetune
from fewshot.methods import gda as gda
from fewshot.methods import maml as maml
from fewshot.methods import maml_learn2learn as maml_learn2learn
from fewshot.methods import matching as matching
from fewshot.methods import meta_baseline as meta_baseline
from fewshot.methods import nearest as nearest
from fewshot.methods import prototypical as prototypical
from fewshot.methods import r2d2 as r2d2
from fewshot.methods import relation as relation
from fewshot.methods import simpleshot as simpleshot
from fewshot.methods.base import (
    METHODS,
    Method,
    create_method,
    find_method,
    list_methods,
)
from fewshot.methods.context import EpisodeContext
from fewshot.methods.features import FeatureHead
from fewshot.methods.scores import accuracy, negative_log_likelihood

__all__ = [
    "METHODS",
    "EpisodeContext",
    "FeatureHead",
    "Method",
    "accuracy",
    "create_method",
    "find_method",
    "list_methods",
    "negative_log_likelihood",
]
