"""What adapting costs the base classes: by construction, and against copies of the adapted network."""

import copy

import numpy as np
import pytest
import torch
from conftest import striped
from torch import nn

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet, Method, Records, create_backbone, create_method, evaluate
from fewshot.errors import ConfigError
from fewshot.evaluation.base_classes import BaseClasses, ClassMeans
from fewshot.evaluation.report import format_base_classes
from fewshot.images.holding_out import hold_out_images
from fewshot.runtime import seeding

SPEC = EpisodeSpec(3, 2, 4)
OPTIONS = {"steps": 4, "lr": 0.05}


class Pixel(nn.Module):
    """The features of an image are its first pixel, and 1."""

    feature_dim = 2

    def forward(self, images):
        return torch.stack([images.flatten(1)[:, 0].float(), torch.ones(len(images))], 1)


class Darker(Method):
    """Its network sees darker pixels once it is adapted."""

    reports_adapted = True

    def forward(self, support, support_labels, query, n_way, *, context=None):
        for number in range(len(support)):
            if context.adapted is not None:
                context.adapted(number, lambda images: self.backbone(images) * torch.tensor([0.4, 1.0]))
        return torch.zeros(*query.shape[:2], n_way)


def told(n_images=10):
    """Base classes whose images show 0, 40, 80 and 120."""
    labels = np.repeat(np.arange(4), n_images)
    return ImageSet(np.uint8(40 * labels)[:, None, None, None], labels, list("abcd"), name="told", split="held out")


def nearest():
    """Classifies a pixel by the nearest of 0, 40, 80, 120."""
    return ClassMeans(torch.tensor([[0.0, 1], [40, 1], [80, 1], [120, 1]]), torch.arange(4), 4)


def network():
    with seeding.fork(0, "test"):
        return create_backbone("conv4", 1, 16, n_filters=8)


def base_of(backbone, n_images=12):
    kept, held = hold_out_images(striped(6, n_images=10, split="train"), 5)
    features = backbone.eval()(kept.images).detach()
    return BaseClasses(held, ClassMeans(features, torch.from_numpy(kept.labels), 6), "class means", n_images)


def test_a_network_that_is_adapted_to_see_darker_pixels_loses_what_it_must():
    """Of 0, 40, 80, 120 only 0 stays where it was: 16 is nearest to 0, 32 and 48 are to 40."""
    base = BaseClasses(told(), nearest(), "class means", 40)  # all images, so that shares are known
    records = evaluate(Darker(Pixel()), striped(5, split="test"), SPEC, 3, base=base)
    before, after = records.base_shares
    assert before.tolist() == [1.0] * 3
    assert after.tolist() == [0.25] * 3
    assert records.header.base_classes["difference"] == [-0.75, 0.0]
    assert (records.header.base_classes["n_classes"], records.header.base_classes["n_held_out"]) == (4, 40)


@pytest.mark.parametrize("mode", ["linear", "cosine"])
def test_a_head_on_a_frozen_network_costs_exactly_nothing(mode):
    backbone = network()
    records = evaluate(
        create_method("finetune", backbone, mode=mode, steps=4),
        striped(5, split="test"),
        SPEC,
        6,
        base=base_of(backbone),
    )
    before, after = records.base_shares
    assert before.tolist() == after.tolist()
    assert 1 / 6 < before.mean() < 1.0
    assert records.header.base_classes["difference"] == [0.0, 0.0]


def test_methods_of_features_leave_the_network_as_it_is():
    backbone = network()
    base = base_of(backbone)
    tuned, kept = (
        evaluate(method, striped(5, split="test"), SPEC, 6, base=base)
        for method in (create_method("finetune", backbone, mode="linear", steps=1), create_method("protonet", backbone))
    )
    assert kept.base_shares[0].tolist() == kept.base_shares[1].tolist() == tuned.base_shares[0].tolist()


@pytest.mark.parametrize("mode", ["full", "batchnorm", "bias", "partial"])
def test_the_adapted_network_is_asked_episode_by_episode(mode):
    """The same by hand: each support set is fitted anew, its network copied, and its features compared with means."""
    backbone, test_set, seed = network(), striped(5, split="test"), 3
    base, method = base_of(backbone), create_method("finetune", backbone, mode=mode, **OPTIONS)
    records = evaluate(method, test_set, SPEC, 4, seed, base=base)
    sampler = EpisodeSampler(test_set, SPEC, seed)
    for number, episode in enumerate(records.episodes):
        rows = sampler.batch(number, 1).fill(test_set)
        fitted = method.eval().fit_support(rows.support[0], rows.support_labels[0], 3)
        ours = copy.deepcopy(fitted.network.backbone).eval()
        asked = base.draw(seed, number)
        with torch.no_grad():
            features = ours(base.imageset.images[asked])
        distances = (features[:, None] - base.classifier.means[0]).square().sum(-1)
        right = distances.argmin(1).numpy() == base.imageset.labels[asked]
        assert episode.base_after == pytest.approx(right.mean())
    assert len({tuple(base.draw(seed, number).tolist()) for number in range(4)}) == 4
    assert (records.base_shares[0] != records.base_shares[1]).any()


def test_records_keep_the_shares(tmp_path):
    backbone = network()
    method = create_method("finetune", backbone, mode="full", **OPTIONS)
    records = evaluate(method, striped(5, split="test"), SPEC, 5, base=base_of(backbone))
    records.write(tmp_path / "records.jsonl")
    again = Records.read(tmp_path / "records.jsonl")
    assert again == records
    before, after = again.base_shares
    mean, half = again.header.base_classes["difference"]
    assert mean == pytest.approx((after - before).mean(), abs=1e-6)
    assert half > 0
    expected = f"6 base classes (class means, 12 held-out images an episode): {100 * before.mean():.2f} ± "
    assert format_base_classes(again.header).startswith(expected)
    plain = evaluate(method, striped(5, split="test"), SPEC, 2)
    plain.write(tmp_path / "plain.jsonl")
    assert "base_before" not in (tmp_path / "plain.jsonl").read_text()
    assert np.isnan(Records.read(tmp_path / "plain.jsonl").base_shares).all()


def test_what_does_not_show_its_network_is_refused():
    method = create_method("maml", network(), n_way=3)
    with pytest.raises(ConfigError, match="does not show the network that it adapts"):
        evaluate(method, striped(5, split="test"), SPEC, 2, base=base_of(method.backbone))


def test_more_images_than_there_are_cannot_be_drawn():
    with pytest.raises(ConfigError, match=r"41 images of the base classes .* has 40"):
        BaseClasses(told(), nearest(), "class means", 41)
