"""A method trained for a fixed number of classes refuses more classes before images are read."""

import numpy as np
import pytest

from fewshot import create_backbone, create_method
from fewshot.config.classifier import ClassifierOptions
from fewshot.errors import FewShotError
from fewshot.estimator.building import Plan
from fewshot.estimator.encoder import Encoder


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_more_classes_than_a_method_was_made_for(name):
    backbone = create_backbone("conv4", 3, 16, n_filters=4)
    encoder = Encoder(create_method(name, backbone, n_way=5), Plan(ClassifierOptions(device="cpu")))
    for n_classes in (2, 5):
        encoder.check_n_classes(n_classes)
    with pytest.raises(FewShotError, match=r"an episode of 6 classes does not fit .*n_way=5"):
        encoder.check_n_classes(6)


def test_methods_that_learn_no_classes_take_any_number():
    encoder = Encoder(create_method("protonet", None), Plan(ClassifierOptions(backbone=None, device="cpu")))
    for n_classes in np.geomspace(2, 10**6, 5).astype(int).tolist():
        encoder.check_n_classes(n_classes)
