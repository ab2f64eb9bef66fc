"""One picture in two classes: the data set and the classifier say the same."""

import logging

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier
from fewshot.datasets import load_dataset
from fewshot.errors import DataError


def test_the_data_set_warns_and_the_classifier_refuses_by_one_sentence(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{name}.png")
    with caplog.at_level(logging.WARNING):
        load_dataset("folder", "all", tmp_path, size_px=16)
    assert caplog.messages == []
    (tmp_path / "b" / "3.png").write_bytes((tmp_path / "a" / "2.png").read_bytes())
    with caplog.at_level(logging.WARNING):
        load_dataset("folder", "all", tmp_path, size_px=16)
    assert caplog.messages == [
        f"{tmp_path}: the same picture in two classes: a/2.png and b/3.png; remove the wrong one"
    ]
    with pytest.raises(DataError, match=r"in two classes: .*2\.png and .*3\.png; remove the wrong one"):
        FewShotClassifier("conv4", pretrained=False, size_px=16).fit_folder(tmp_path)
