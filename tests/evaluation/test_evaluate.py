"""The evaluator: hand-calculated accuracies, independence of batching, and the header of its records."""

import json
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet, Method, Records, create_method, evaluate
from fewshot.errors import DataError, TrainingError
from fewshot.evaluation.embed import embed
from fewshot.evaluation.evaluate import _draw_batches
from fewshot.evaluation.statistics import compute_mean_interval, compute_paired_difference


def told(n_classes: int = 6, wrong: int = 0) -> ImageSet:
    """Images whose only pixel is their class, except the first `wrong` of each class, which show the next class."""
    labels = np.repeat(np.arange(n_classes), 20)
    shown = np.where(np.arange(len(labels)) % 20 < wrong, (labels + 1) % n_classes, labels)
    return ImageSet(
        np.uint8(shown * 40).reshape(-1, 1, 1, 1), labels, [f"c{i}" for i in range(n_classes)], split="test"
    )


class Flattening(Method):
    """ProtoNet on one pixel, written out; an option declares it transductive."""

    def encode(self, images):
        return images.flatten(-3).float()

    def head(self, support, support_labels, query, n_way):
        logits = torch.stack([-(query - support[:, support_labels[0] == c].mean(1, keepdim=True)).square().sum(-1)
                              for c in range(n_way)], -1)  # fmt: skip
        return logits


class FromImages(Flattening):
    uses_features = False


@pytest.mark.parametrize("kind", [Flattening, FromImages])
def test_pixels_that_tell_the_class_are_always_right(kind):
    records = evaluate(kind(None), told(), EpisodeSpec(5, 1, 15), 50)
    assert records.mean == 1.0
    assert records.half_width_95 == 0.0
    assert records.accuracy.shape == (50,)


def test_accuracy_is_counted_as_by_hand():
    imageset, spec = told(wrong=6), EpisodeSpec(3, 2, 4)
    records = evaluate(Flattening(None), imageset, spec, 40, seed=3)
    sampler = EpisodeSampler(imageset, spec, 3)
    pixel = imageset.images.flatten().float()
    for i in range(40):
        episode = sampler.batch(i, 1)
        support, query = pixel[episode.support[0]], pixel[episode.query[0]]
        means = torch.stack([support[episode.support_labels[0] == c].mean() for c in range(3)])
        logits = -((query[:, None] - means) ** 2)
        right = (logits.argmax(1) == episode.query_labels[0]).double().mean()
        assert records.episodes[i].accuracy == pytest.approx(float(right), abs=1e-6)
        nll = torch.nn.functional.cross_entropy(logits, episode.query_labels[0])
        assert records.episodes[i].loss == pytest.approx(float(nll), abs=1e-3, rel=1e-4)
        assert (records.episodes[i].index, records.episodes[i].n_way, records.episodes[i].n_support) == (i, 3, 6)


def test_fewer_episodes_are_the_first_ones(small_protonet, toy_sets):
    method, test = small_protonet(), toy_sets[2]
    many = evaluate(method, test, EpisodeSpec(5, 1, 5), 60)
    few = evaluate(method, test, EpisodeSpec(5, 1, 5), 25)
    assert np.array_equal(many.accuracy[:25], few.accuracy)


def test_batches_and_features_of_the_set_change_nothing(small_protonet, toy_sets, monkeypatch):
    method, test, spec = small_protonet(), toy_sets[2], EpisodeSpec((3, 5), (1, 2), (2, 5))
    whole = evaluate(method, test, spec, 40).accuracy
    assert np.array_equal(whole, evaluate(method, embed(method, test), spec, 40).accuracy)
    monkeypatch.setattr(sys.modules["fewshot.evaluation.evaluate"], "BATCH_NUMBERS", 1)
    assert all(len(episode) == 1 for _, episode in _draw_batches(EpisodeSampler(test, spec), test, 4))
    assert np.array_equal(whole, evaluate(method, test, spec, 40).accuracy)


def test_features_path_equals_images_path(small_protonet, toy_sets):
    method, test, spec = small_protonet().eval(), toy_sets[2], EpisodeSpec(4, 2, 3)
    sampler = EpisodeSampler(test, spec, 0)
    episode = sampler.batch(0, 30).fill(sampler.data)
    with torch.no_grad():
        logits = method(episode.support, episode.support_labels, episode.query, episode.n_way)
    direct = (logits.argmax(-1) == episode.query_labels).float().mean(1)
    assert np.allclose(evaluate(method, test, spec, 30).accuracy, direct.numpy())


def test_evaluation_leaves_the_method_as_it_was(small_protonet, toy_sets):
    method = small_protonet().train()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    evaluate(method, toy_sets[2], EpisodeSpec(3, 1, 3), 5)
    assert method.training
    assert all(torch.equal(before[name], tensor) for name, tensor in method.state_dict().items())


def test_header_says_what_was_measured(small_protonet, toy_sets, tmp_path):
    records = evaluate(small_protonet(), toy_sets[2], EpisodeSpec(5, 1, 5), 20, seed=4)
    records.write(tmp_path / "records.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert len(lines) == 21
    header = lines[0]
    assert header["data_fingerprint"] == toy_sets[2].fingerprint
    assert (header["seed"], header["split"], header["transductive"]) == (4, "test", False)
    assert header["versions"]["torch"] == torch.__version__
    assert Records.read(tmp_path / "records.jsonl") == records
    (tmp_path / "short.jsonl").write_text("\n".join(map(json.dumps, lines[:-1])))
    with pytest.raises(DataError, match="19 of 20 episodes"):
        Records.read(tmp_path / "short.jsonl")
    (tmp_path / "other.jsonl").write_text("not json")
    with pytest.raises(DataError, match="does not hold records"):
        Records.read(tmp_path / "other.jsonl")


def test_nan_logits_are_an_error(toy_sets):
    class Broken(Flattening):
        def head(self, support, support_labels, query, n_way):
            return super().head(support, support_labels, query, n_way) * torch.nan

    with pytest.raises(TrainingError, match="Broken: logits are NaN"):
        evaluate(Broken(None), toy_sets[2], EpisodeSpec(3, 1, 3), 5)


@pytest.mark.parametrize("n", [2, 5, 600])
def test_interval_against_scipy(n):
    values = np.random.default_rng(n).beta(8, 2, n)
    mean, half = compute_mean_interval(values)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-9)


def test_paired_difference_against_scipy():
    a, b = np.random.default_rng(0).random((2, 50))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    mean, half = compute_paired_difference(a, b)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high), rel=1e-9)
    with pytest.raises(ValueError, match="differ in length"):
        compute_paired_difference(a, b[:-1])
    assert compute_mean_interval([0.5]).half_width_95 == float("inf")


def test_no_backbone_takes_pixels_as_features():
    records = evaluate(create_method("protonet", None), told(), EpisodeSpec(5, 1, 5), 10)
    assert records.mean == 1.0
