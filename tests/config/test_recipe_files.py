"""Recipes with rows, test cells and a base; refused recipes; saved configurations."""

from dataclasses import replace
from pathlib import Path

import pytest

from fewshot import cli
from fewshot.config import EvaluateConfig, ExperimentConfig, PretrainExperimentConfig, as_dict, read_saved
from fewshot.config.recipes import read_recipe
from fewshot.config.yaml_files import read_options
from fewshot.errors import ConfigError, UnknownNameError

BASE = """
kind: base
dataset: omniglot
dataset_options: {resize: antialiased, rotations: false}
augmentation: {shift: 0.1}
train_n_way: 60
val_n_way: 20
test_cells:
- {n_way: [5, 20], n_shot: 1}
- {n_way: [5, 20], n_shot: 10, n_query: 6, n_episodes: 200}
"""
STAGE_ONE = """
kind: pretrain
extends: base.yaml
row: classifier-baseline
run_dir: runs/toy/pretrain
backbone: resnet12
batch_size: 32
max_steps: 900
rows:
  simpleshot: {}
  linear: {method: baseline, dataset_options: {resize: nearest, rotations: null}, test_cells: [{n_way: 7}]}
"""


@pytest.fixture
def stage_one(tmp_path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "pretrain.yaml").write_text(STAGE_ONE)
    return tmp_path / "pretrain.yaml"


def parsed(path: Path, *arguments: str, kind: type = ExperimentConfig) -> ExperimentConfig | PretrainExperimentConfig:
    return cli.parse(kind, "", ["--config", str(path), *arguments])


def refused(path: Path, text: str, *words: str) -> None:
    path.write_text(text)
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        read_recipe(path)
    for word in (*words, str(path)):
        assert word in str(error.value)


# ---------------------------------------------------------------- what is asked for


def test_a_training_has_what_it_extends_and_measures_the_first_test_cell(stage_one):
    wanted = PretrainExperimentConfig(
        dataset="omniglot", dataset_options={"resize": "antialiased", "rotations": False}, augmentation={"shift": 0.1},
        val_n_way=20, test_n_way=[5, 20], test_n_shot=[1], run_dir="runs/toy/pretrain", backbone="resnet12",
        batch_size=32, max_steps=900,
    )  # fmt: skip
    assert parsed(stage_one, kind=PretrainExperimentConfig) == wanted  # train_n_way is of the other kind: left out


def test_rows_have_data_backbone_and_episodes_of_their_file_but_not_its_training(stage_one):
    shared = {"dataset": "omniglot", "backbone": "resnet12", "val_n_way": 20, "max_steps": 0,
              "pretrained_run": "runs/toy/pretrain"}  # fmt: skip
    own = {"method": "simpleshot", "dataset_options": {"resize": "antialiased", "rotations": False}}
    wanted = ExperimentConfig(**shared, **own, test_n_way=[5, 20], test_n_shot=[1])
    assert parsed(stage_one, "--row", "simpleshot") == wanted
    more = ExperimentConfig(
        **shared, **own, test_n_way=[5, 20], test_n_shot=[10], test_n_query=6, test_episodes=200, seed=3
    )
    assert parsed(stage_one, "--row", "simpleshot_10shot", "--seed", "3") == more
    linear = ExperimentConfig(**shared, method="baseline", dataset_options={"resize": "nearest"}, test_n_way=[7])
    assert parsed(stage_one, "--row", "linear") == linear


def test_entries_are_named_after_file_row_and_cell(stage_one):
    recipe = read_recipe(stage_one)
    assert [(e.name, e.row, e.kind) for e in recipe.entries] == [
        ("pretrain", "classifier-baseline", "pretrain"),
        ("simpleshot", "simpleshot", "episodic"),
        ("simpleshot_10shot", "simpleshot", "episodic"),
        ("linear", "linear", "episodic"),
    ]


def test_a_recipe_that_extends_a_recipe_takes_its_options_and_not_its_rows(stage_one):
    other = stage_one.with_name("cosine.yaml")
    other.write_text("kind: pretrain\nextends: pretrain.yaml\naugmentation: null\nclassifier: cosine\n")
    recipe = read_recipe(other)
    assert [(e.name, e.row) for e in recipe.entries] == [("cosine", "cosine")]
    config = parsed(other, kind=PretrainExperimentConfig)
    assert (config.classifier, config.batch_size, config.augmentation) == ("cosine", 32, {})


def test_other_networks_are_trainings_and_rows_of_their_own(stage_one):
    base = stage_one.with_name("base.yaml")
    base.write_text(BASE + "networks: {deep: {backbone: conv6, train_n_way: 7, batch_size: 16}}\n")
    later = stage_one.with_name("later.yaml")
    later.write_text("extends: base.yaml\nmethod: meta-baseline\npretrained_run: runs/toy/pretrain\n")
    recipe = read_recipe(stage_one)
    names = ["pretrain", "pretrain_deep", "simpleshot", "simpleshot_10shot", "linear"]
    names += ["simpleshot_deep", "simpleshot_deep_10shot", "linear_deep"]
    assert [entry.name for entry in recipe.entries] == names
    assert [entry.row for entry in recipe.entries][:2] == ["classifier-baseline", "classifier-baseline_deep"]
    shallow = parsed(stage_one, kind=PretrainExperimentConfig)
    deep = parsed(stage_one, "--row", "pretrain_deep", kind=PretrainExperimentConfig)
    changes = {"backbone": "conv6", "batch_size": 16, "run_dir": "runs/toy/pretrain_deep"}
    assert deep == replace(shallow, **changes)  # train_n_way is of the other kind
    row = parsed(stage_one, "--row", "simpleshot_deep_10shot")
    assert (row.method, row.backbone, row.pretrained_run) == ("simpleshot", "conv6", "runs/toy/pretrain_deep")
    assert (row.test_n_shot, row.max_steps) == ([10], 0)
    second = parsed(later, "--row", "later_deep")
    assert (second.train_n_way, second.backbone, second.pretrained_run) == (7, "conv6", "runs/toy/pretrain_deep")
    assert parsed(later).pretrained_run == "runs/toy/pretrain"


def test_each_row_is_measured_on_each_test_set(tmp_path):
    path = tmp_path / "frozen.yaml"
    path.write_text(
        "kind: frozen\ntest_variants: {few: {n_query: 2}}\nbackbone_options: {pretrained: true}\n"
        "test_sets:\n  signs: {test_dataset: gtsrb, test_varied: {n_way: [5, 20], n_shot: 1, n_query: 2}}\n"
        "  coins: {test_dataset: euro_coins, test_cells: [{n_way: 8, n_shot: [1, 4]}, {n_way: 8, n_shot: 10}]}\n"
        "rows: {nearest: {}, one: {method: protonet}}\n"
    )
    entries = read_recipe(path).entries
    assert [(entry.name, entry.row, entry.test_set) for entry in entries] == [
        ("nearest_signs", "nearest", "signs"),
        ("nearest_coins", "nearest", "coins"),
        ("nearest_coins_10shot", "nearest", "coins"),
        ("one_signs", "one", "signs"),
        ("one_coins", "one", "coins"),
        ("one_coins_10shot", "one", "coins"),
    ]
    signs, coins = parsed(path, "--row", "one_signs"), parsed(path, "--row", "nearest_coins")
    assert (signs.method, signs.test_dataset, signs.test_n_way) == ("protonet", "gtsrb", [5])
    assert signs.test_varied == {"n_way": [5, 20], "n_shot": 1, "n_query": 2}
    assert (coins.test_dataset, coins.test_n_way, coins.test_n_shot) == ("euro_coins", [8], [1, 4])
    assert coins.test_varied == {}
    assert signs.test_variants == coins.test_variants == {"few": {"n_query": 2}}


def test_rows_on_published_weights_need_no_training(tmp_path):
    path = tmp_path / "frozen.yaml"
    path.write_text("kind: frozen\nbackbone_options: {pretrained: true}\nrows:\n  nearest: {method_options: {k: 3}}\n")
    config = parsed(path, "--row", "nearest")
    assert (config.pretrained_run, config.max_steps, config.method_options) == (None, 0, {"k": 3})
    with pytest.raises(ConfigError, match="trains nothing; name one of its rows with --row: nearest"):
        parsed(path)


def test_what_the_command_line_says_wins(stage_one):
    config = parsed(stage_one, "--row", "simpleshot", "--test_n_shot", "[2]", "--backbone", "conv4")
    assert (config.test_n_shot, config.backbone, config.test_n_way) == ([2], "conv4", [5, 20])


# ---------------------------------------------------------------- what is refused


def test_a_recipe_of_another_kind_names_its_script(stage_one):
    with pytest.raises(ConfigError, match=r"pretrain.yaml is of kind pretrain: run it with scripts/pretrain.py"):
        parsed(stage_one)
    with pytest.raises(ConfigError, match=r"the row simpleshot .* episodic: run it with scripts/train_episodic.py"):
        parsed(stage_one, "--row", "simpleshot", kind=PretrainExperimentConfig)
    with pytest.raises(UnknownNameError, match=r"unknown row of .* 'simplshot'. Did you mean 'simpleshot'"):
        parsed(stage_one, "--row", "simplshot")
    with pytest.raises(ConfigError, match="--row nearest is a row of a recipe: name its file with --config"):
        cli.parse(ExperimentConfig, "", ["--row", "nearest"])
    with pytest.raises(ConfigError, match="--row names a row of the recipe: --row NAME"):
        cli.parse(ExperimentConfig, "", ["--config", "a.yaml", "--row"])


def test_what_a_recipe_cannot_say(tmp_path):
    path = tmp_path / "a.yaml"
    refused(path, "kind: pretrained\n", "unknown kind", "Did you mean 'pretrain'?")
    refused(path, "rows: [nearest]\n", "rows must hold names", "['nearest']")
    refused(path, "rows: {nearest: {}}\n", "name their folder with run_dir")
    refused(path, "test_cells: {n_way: 5}\n", "test_cells must be a list")
    refused(path, "test_cells: [{n_ways: 5}]\n", "Did you mean 'n_way'?")
    refused(path, "test_cells: [{n_way: 5}]\ntest_n_shot: [1]\n", "by test_cells and by test_n_shot; use one of them")
    two = "test_cells: [{n_way: 5, n_shot: 1}, {n_way: 20, n_shot: 5}]"
    refused(path, f"kind: frozen\nrows: {{nearest: {{}}}}\n{two}\n", "a later test cell must differ from")
    for name in ("5", '"../../x"', '""', "a/b"):
        refused(path, f"kind: frozen\nrows: {{{name}: {{}}}}\n", "a name in rows is a letter")
    refused(path, "kind: frozen\nrows: {nearest: {seed: 7}}\n", "the row nearest cannot set seed")
    refused(path, "networks: {deep: {run_dir: x}}\n", "the network deep cannot set run_dir")
    refused(path, "networks: [deep]\n", "networks must hold names")
    refused(path, "kind: frozen\ntest_sets: {a/b: {}}\nrows: {nearest: {}}\n", "a name in test_sets is a letter")
    refused(path, "max_steps: 3\ntest_sets: {signs: {}}\n", "test_sets are for rows without a training", "got episodic")
    refused(path, "extends: [base.yaml]\n", "extends names one file", "['base.yaml']")
    refused(path, "- a list\n", "must map names of options to values")
    refused(path, "lr: 0.1\nseed: 1\nlr: 0.2\n", "the key 'lr' stands in line 1 and again in line 3")
    refused(
        path, "rows:\n  nearest: {k: 1}\n  nearest: {k: 3}\n", "the key 'nearest' stands in line 2 and again in line 3"
    )
    refused(path, "lr: [\n", "is no YAML file")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    refused(path, "extends: b.yaml\n", "extends goes in a circle", "b.yaml")
    path.write_text("extends: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"gone.yaml: the file cannot be read \(No such file"):
        read_recipe(path)


def test_a_repeated_key_is_refused_by_commands_without_recipes_too(tmp_path):
    path = tmp_path / "measure.yaml"
    path.write_text("run_dir: runs/a\nmethod_options: {steps: 3, lr: 0.1, steps: 4}\n")
    with pytest.raises(ConfigError, match=r"measure.yaml: the key 'steps' stands in line 2 and again in line 2"):
        parsed(path, kind=EvaluateConfig)


def test_keys_that_a_mapping_takes_over_from_an_anchor_may_be_given_again(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text("first: &a {x: 1, y: 2}\nsecond: {<<: *a, x: 3}\n")
    assert read_options(path) == {"first": {"x": 1, "y": 2}, "second": {"x": 3, "y": 2}}


@pytest.mark.parametrize("option", ["weight_decay", "lr", "max_gradient_norm", "average_decay", "classifier_scale"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_refuses_numbers_that_are_not_finite(option, value):
    with pytest.raises(ConfigError, match=f"^{option} must be finite, got {value}$"):
        PretrainExperimentConfig(**{option: value})


# ---------------------------------------------------------------- saved configurations


@pytest.mark.parametrize("config", [ExperimentConfig(lr=0.5), PretrainExperimentConfig(batch_size=7)])
def test_a_saved_configuration_is_read_back_as_what_it_was(config):
    saved = as_dict(config)
    assert saved["kind"] == config.kind
    assert read_saved(saved, "config.json") == config
    early = {key: value for key, value in saved.items() if key != "kind"}  # of a version that did not say it
    assert read_saved(early, "config.json") == config


def test_a_saved_configuration_of_a_later_version_is_refused():
    with pytest.raises(ConfigError, match=r"x/config.json has options that .* does not know: \['newer'\]"):
        read_saved({"kind": "episodic", "newer": 1}, "x/config.json")
    with pytest.raises(UnknownNameError, match=r"unknown kind of the configuration x/config.json 'episodical'"):
        read_saved({"kind": "episodical"}, "x/config.json")
