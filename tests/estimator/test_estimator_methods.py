"""`FewShotClassifier` with methods that adapt weights, and with networks of trained runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot import FewShotClassifier
from fewshot.config import ExperimentConfig
from fewshot.errors import ConfigError
from fewshot.experiments.build import load_run, load_split

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_episodic.py"
OPTIONS = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}
N_CLASSES, N_SHOT = 3, 4
Images = tuple[list[Tensor], list[Tensor], list[str]]


@pytest.fixture(scope="module")
def images() -> Images:
    """Support images (1, 28, 28), queries of the same classes, and the support's labels."""
    glyphs = load_split(ExperimentConfig(), "test")
    rows = [np.flatnonzero(glyphs.labels == label)[: N_SHOT + 2] for label in range(N_CLASSES)]
    seen, asked = np.concatenate([r[:N_SHOT] for r in rows]), np.concatenate([r[N_SHOT:] for r in rows])
    labels = [glyphs.class_names[label] for label in glyphs.labels[seen]]
    return *([glyphs.gather(torch.tensor([row]))[0] for row in some] for some in (seen, asked)), labels


@pytest.mark.parametrize("mode", ["linear", "batchnorm", "full"])
def test_what_finetune_adapted_is_in_the_file(images, mode, tmp_path):
    support, queries, labels = images
    method = {"method": "finetune", "method_options": {"mode": mode, "steps": 5, "lr": 0.01}}
    classifier = FewShotClassifier(**OPTIONS, **method).fit(support, labels)
    classifier.save(tmp_path / "a.fewshot")
    loaded = FewShotClassifier.load(tmp_path / "a.fewshot")
    np.testing.assert_array_equal(loaded.predict_proba(queries), classifier.predict_proba(queries))
    start = FewShotClassifier(**OPTIONS, method="finetune", method_options={"mode": mode, "steps": 0})
    start.fit(support, labels).temperature_ = classifier.temperature_
    assert np.abs(start.predict_proba(queries) - classifier.predict_proba(queries)).max() > 1e-4


def test_finetune_has_no_features_to_reject_by(images):
    support, _, labels = images
    with pytest.raises(ConfigError, match=r"finetune has no features .* refusing needs them"):
        FewShotClassifier(**OPTIONS, method="finetune", false_accept_rate=0.1).fit(support, labels)


@pytest.mark.parametrize("option", ["in_channels", "input_px", "pretrained", "weights", "views"])
def test_what_has_a_name_of_its_own_is_no_backbone_option(images, option):
    support, _, labels = images
    asked = OPTIONS | {"backbone_options": {option: 1}}
    with pytest.raises(ConfigError, match=f"backbone_options has {option}: give"):
        FewShotClassifier(**asked).fit(support, labels)


@pytest.mark.parametrize("method", ["protonet", "maml"])
def test_a_trained_run_is_a_classifier(images, method, tmp_path):
    support, queries, labels = images
    options = {"maml": ["--method_options.n_way", str(N_CLASSES)]}.get(method, [])
    short = "--dataset glyphs --max_steps 2 --train_n_way 3 --val_episodes 2 --val_n_way 3"
    command = [sys.executable, str(SCRIPT), *short.split(), "--method", method, *options]
    command += [
        "--test_n_way",
        "[3]",
        "--test_n_shot",
        "[1]",
        "--test_episodes",
        "5",
        "--run_dir",
        str(tmp_path / "run"),
    ]
    subprocess.run([*command, "--run_dir", str(tmp_path / "run")], check=True, capture_output=True)
    classifier = FewShotClassifier(run_dir=tmp_path / "run", precision="float32").fit(support, labels)
    classifier.save(tmp_path / "a.fewshot")
    for name, value in (("backbone", "resnet18"), ("backbone_options", {"n_filters": 32}), ("weights", "w.pt")):
        with pytest.raises(
            ConfigError, match=f"that of the run .*run: leave out {name}, which is {re.escape(repr(value))}"
        ):
            FewShotClassifier(run_dir=tmp_path / "run", **{name: value}).fit(support, labels)
    trained, _ = load_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    tensors = [torch.stack(some)[None] for some in (support, queries)]
    own = torch.from_numpy(np.unique(labels, return_inverse=True)[1])[None]
    with torch.no_grad():
        logits = trained.eval()(tensors[0], own, tensors[1], N_CLASSES)[0]
    expected = torch.softmax(logits.double() / classifier.temperature_, 1)
    for answers in (classifier, FewShotClassifier.load(tmp_path / "a.fewshot")):
        np.testing.assert_allclose(answers.predict_proba(queries), expected, atol=1e-4)
