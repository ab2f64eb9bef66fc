"""The method of a run as a folder that learns classes from photographs that it is given."""

import numpy as np
import pytest
from method_cases import VARIANTS, WAY, OnVectors, features, names, skip_without_package

from fewshot import FewShotClassifier, create_backbone, create_method
from fewshot.config import ExperimentConfig, ExportConfig
from fewshot.errors import ConfigError, DataError
from fewshot.experiments.build import load_split
from fewshot.photographs.serving.describe import describe_head, is_fixed
from fewshot.photographs.serving.heads import HEADS, log_softmax

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="what writes ONNX is not installed: pip install 'fewshot[export]'")

from PIL import Image  # noqa: E402

from fewshot.commands import execute  # noqa: E402
from fewshot.photographs.serving.asking import run  # noqa: E402
from fewshot.photographs.serving.exporting import export  # noqa: E402
from fewshot.photographs.serving.predictor import Predictor  # noqa: E402

NEEDS_TORCH = ("anil", "finetune", "maml", "maml-learn2learn", "relation")


@pytest.mark.parametrize("variant", VARIANTS, ids=names)
def test_each_method_of_a_run_answers_alike_by_numpy_or_says_why_not(variant):
    skip_without_package(variant[0])
    vectors = OnVectors(*variant)
    support, labels, query, _ = features(n_episodes=1)
    if variant[0] in NEEDS_TORCH or "full_context" in variant[1]:
        with pytest.raises(ConfigError, match="it cannot be exported"):
            describe_head(vectors.method)
        return
    name, options = describe_head(vectors.method)
    if is_fixed(vectors.method):
        assert variant in (("baseline", {}), ("baseline++", {}))  # by stochastic gradient descent: `export` says so
        return
    arrays = HEADS[name].fit(support[0].double().numpy(), labels[0].numpy(), WAY, options)
    found = log_softmax(HEADS[name].logits(arrays, query[0].double().numpy(), options))
    expected = vectors(support, labels, query, WAY)[0].log_softmax(-1).exp()
    np.testing.assert_allclose(np.exp(found), expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("maml", {}, "adapts its network to each support set, which needs torch"),
        ("finetune", {}, "adapts its network to each support set, which needs torch"),
        ("relation", {}, "a head of its own that runs in torch"),
        ("matching", {"full_context": True}, "reads the support by recurrent networks"),
        ("simpleshot", {}, "has not learnt the base classes' mean"),
    ],
)
def test_what_has_no_head_without_torch_is_a_sentence(name, options, why):
    method = create_method(name, create_backbone("conv4-relation" if name == "relation" else "conv4", 1, 28), **options)
    with pytest.raises(ConfigError, match=why):
        describe_head(method)


def test_export_takes_a_classifier_or_a_run(tmp_path):
    with pytest.raises(ConfigError, match="one of them"):
        ExportConfig(out="a")
    with pytest.raises(ConfigError, match="one of them"):
        ExportConfig(out="a", model="m", run_dir="r")
    with pytest.raises(ConfigError, match="has no classes yet"):
        ExportConfig(out="a", run_dir="r", photos="p")


def test_a_run_learns_what_it_is_given(tmp_path, capsys):
    short = "--dataset glyphs --max_steps 2 --train_n_way 3 --val_episodes 2 --val_n_way 3 --test_n_way [3]"
    short += " --test_n_shot [1] --test_episodes 5 --method r2d2 --backbone_options.n_filters 8"
    execute("train", [*short.split(), "--run_dir", str(tmp_path / "run")])
    export(ExportConfig(run_dir=str(tmp_path / "run"), out=str(tmp_path / "glyphs")))
    predictor = Predictor(tmp_path / "glyphs")
    assert predictor.classes == []
    glyphs = load_split(ExperimentConfig(), "test")
    rows = np.concatenate([np.flatnonzero(glyphs.labels == label)[:6] for label in range(3)])
    pictures = list(np.asarray(glyphs.images[rows])[:, 0])
    labels = [f"sign {glyphs.labels[row]}" for row in rows]
    seen = [i for i in range(18) if i % 6 < 4]
    with pytest.raises(DataError, match="has no classes yet: fit"):
        predictor.predict(pictures)
    with pytest.raises(DataError, match="two classes or more"):
        predictor.fit(pictures[:4], labels[:4])
    predictor.fit([pictures[i] for i in seen], [labels[i] for i in seen])
    classifier = FewShotClassifier(run_dir=tmp_path / "run", precision="float32", device="cpu")
    classifier.fit([pictures[i] for i in seen], [labels[i] for i in seen])
    np.testing.assert_allclose(predictor.predict_proba(pictures), classifier.predict_proba(pictures), atol=1e-4)
    for i in range(18):
        (tmp_path / "support" / labels[i]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[i]).save(tmp_path / "support" / labels[i] / f"{i}.png")
    capsys.readouterr()
    words = [str(tmp_path / "support" / labels[0]), "--support", str(tmp_path / "support")]
    assert run(Predictor, tmp_path / "glyphs", words) == 0
    lines = capsys.readouterr().out.splitlines()
    predictor.fit(pictures, labels)
    assert [line.split("\t")[1] for line in lines] == predictor.predict(pictures[:6])
    assert run(Predictor, tmp_path / "glyphs", [str(tmp_path / "gone.png")]) == 2
