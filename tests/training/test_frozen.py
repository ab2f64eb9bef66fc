"""A frozen backbone: which weights stay, which are trained, and how often it encodes an image."""

from dataclasses import replace

import pytest
import torch

from fewshot import TrainConfig, create_backbone, create_method, evaluate, train
from fewshot.config import ExperimentConfig
from fewshot.errors import ConfigError
from fewshot.evaluation import embed
from fewshot.experiments.build import build_method, load_run
from fewshot.experiments.starting import build_starting_method
from fewshot.methods import Method
from fewshot.runtime import seeding
from fewshot.sampling.episodes import EpisodeSampler, EpisodeSpec
from fewshot.sampling.streams import make_stream

QUICK = TrainConfig(
    max_steps=12, train_n_way=4, train_n_shot=2, train_n_query=3, val_n_query=3, val_episodes=30, val_every_steps=4,
    precision="float32", schedule="constant", lr=0.01,
)  # fmt: skip


def frozen(name: str, **options: object) -> Method:
    with seeding.fork(0, "test"):
        method = create_method(name, create_backbone("conv4", 1, 32, n_filters=8), **options)
    for module in method.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics other than the initial ones
            module.running_mean.normal_(generator=seeding.generator(1))
            module.running_var.uniform_(0.5, 2, generator=seeding.generator(2))
    method.backbone.requires_grad_(False)
    return method


METHODS = {"relation": {"shot_pooling": "mean"}, "anil": {"n_way": 5, "inner_lr": 0.01}, "r2d2": {}}


@pytest.mark.parametrize(("name", "options"), METHODS.items())
@pytest.mark.parametrize("augmentation", [{}, {"shift": 0.1}])
def test_all_but_the_backbone_learns(toy_sets, name, options, augmentation):
    train_set, val_set, _ = toy_sets
    method = frozen(name, **options)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    train(method, train_set, val_set, replace(QUICK, augmentation=augmentation))
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert not any(key.startswith("backbone.") for key in changed)


@pytest.mark.parametrize(("name", "options"), METHODS.items())
def test_features_made_once_train_as_those_made_at_each_step(toy_sets, name, options, monkeypatch):
    methods = []
    for each_step in (False, True):
        if each_step:
            monkeypatch.setattr(embed, "KEPT_BYTES", 0)  # no features can be kept in memory
        methods.append(frozen(name, **options))
        train(methods[-1], *toy_sets[:2], replace(QUICK, optimizer="sgd"))  # Adam would follow the sign of a rounding
    for ours, oracle in zip(methods[0].parameters(), methods[1].parameters(), strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-3, atol=1e-4)


def test_each_image_is_looked_at_once(toy_sets):
    train_set, val_set, _ = toy_sets
    method, seen = frozen("anil", n_way=5), []
    method.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    train(method, train_set, val_set, QUICK)
    assert sum(seen) == 1 + len(train_set) + 1 + len(val_set)  # one image each to find the size of features
    seen.clear()
    train(method, train_set, val_set, replace(QUICK, augmentation={"shift": 0.1}))
    assert sum(seen) == QUICK.max_steps * 4 * (2 + 3) + 1 + len(val_set)


def test_a_frozen_backbone_keeps_its_statistics_in_training_mode():
    method = frozen("protonet").train()
    assert method.training
    assert not method.backbone.training
    method.backbone.requires_grad_(True)
    assert method.train().backbone.training


@pytest.mark.parametrize(("name", "options"), METHODS.items())
def test_the_loss_of_features_is_that_of_images(toy_sets, name, options):
    method, (_, _, test) = frozen(name, **options).eval(), toy_sets
    rows = EpisodeSampler(test, EpisodeSpec(5, 2, 3)).batch(0, 4)
    images, features = rows.fill(test), rows.fill(embed.embed(method, test))
    assert (images.of_features, features.of_features) == (False, True)
    for ours, oracle in zip(method.loss_and_logits(features), method.loss_and_logits(images), strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-4, atol=1e-4)


def test_features_are_refused_where_images_are_classified(toy_sets):
    train_set, _, test_set = toy_sets
    features = embed.embed(frozen("protonet"), test_set)
    with pytest.raises(ConfigError, match="MAML with these options classifies images, but was given features"):
        evaluate(frozen("maml"), features, EpisodeSpec(5, 1, 3), 2)
    with pytest.raises(ConfigError, match=r"augmentation changes images, but FeatureSet\(96 of shape \(32,\)"):
        make_stream(features, replace(QUICK, augmentation={"shift": 0.1}), torch.device("cpu"))
    with pytest.raises(ConfigError, match="ANIL, as configured, does not work on features"):
        embed.embed(frozen("anil", support_statistics=True), train_set)


def test_maml_on_a_frozen_backbone_is_anil(toy_sets):
    """By the statistics of each support set, which MAML always takes."""
    options = {"n_way": 5, "inner_steps": 3, "inner_lr": 0.05}
    maml, anil = frozen("maml", **options), frozen("anil", **options, support_statistics=True)
    anil.load_state_dict(maml.state_dict())
    records = [evaluate(method, toy_sets[2], EpisodeSpec(5, 2, 3), 20) for method in (maml, anil)]
    ours, oracle = ([(record.accuracy, record.loss) for record in each.episodes] for each in records)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(oracle), rtol=1e-4, atol=1e-4)


def test_the_option_holds_for_runs_read_back(toy_sets, tmp_path):
    config = ExperimentConfig(
        **vars(replace(QUICK, max_steps=4, run_dir=str(tmp_path))), method="anil", method_options={"n_way": 5},
        freeze_backbone=True,
    )  # fmt: skip
    train_set, val_set, _ = toy_sets
    method = build_method(config, train_set.image_shape)
    assert method.frozen
    train(method, train_set, val_set, config)
    assert load_run(tmp_path)[0].frozen
    assert not build_method(replace(config, freeze_backbone=False), train_set.image_shape).frozen


def test_an_untrained_backbone_that_stays_so_is_warned_of(toy_sets, caplog):
    config = ExperimentConfig(method="anil", freeze_backbone=True)
    build_starting_method(config, toy_sets[0])
    assert "freeze_backbone keeps random initial weights" in caplog.text
    caplog.clear()
    build_starting_method(replace(config, freeze_backbone=False), toy_sets[0])
    assert not caplog.text


def test_nothing_to_train_is_said(toy_sets):
    with pytest.raises(ConfigError, match=r"PrototypicalNetwork.* has no parameter to train.*frozen"):
        train(frozen("protonet"), *toy_sets[:2], QUICK)
