"""Options that make no sense are one sentence, with the expected type or values, before any data are read."""

import os

import pytest
import torch

from fewshot import FewShotClassifier, create_backbone, create_method
from fewshot.commands import main
from fewshot.config import CompareConfig, EvaluateConfig, ExperimentConfig
from fewshot.errors import ConfigError
from fewshot.experiments.options import check_options
from fewshot.runtime.devices import find_device

TRAIN = ["train", "--run_dir", "run", "--data_root", "nowhere"]
VARIED = "--test_varied", "{n_way: %s, n_shot: 1, n_query: 1}"


def refuse(words: list[str], capsys, monkeypatch) -> str:
    monkeypatch.setattr("fewshot.experiments.build.load_dataset", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr().err
    assert left.value.code == 2, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--method_options", "null"], "method_options must be a mapping of names to values, got null"),
        (["--dataset_options", "[1]"], "dataset_options must be a mapping of names to values, got [1]"),
        (["--test_also.x", "5"], "test_also must be a mapping of names to mappings, got 5"),
        (["--test_n_way", "2.5"], "test_n_way must be a list of whole numbers, got 2.5"),
        (["--test_n_way"], "--test_n_way needs a value"),
        (["--lr", "abc"], "lr must be a number, got abc"),
        (["--optimizer", "adamm"], "optimizer must be one of adam, adamw, sgd, got adamm"),
        (["--train_n_way", "[3,5,7]"], "train_n_way must be a whole number or a list of 2: a whole number, a whole"),
        (["--train_n_way", "[7,3]"], "train_n_way is a number of at least 2 or a range [low, high], got (7, 3)"),
        (["--val_n_shot", "0"], "val_n_shot is a number of at least 1 or a range [low, high], got 0"),
        (["--test_variants.x.n_qery", "5"], "'n_qery'. Did you mean 'n_query'? Known: disjoint_groups, n_query, temp"),
        (["--test_variants.x.n_query", "0"], "test_variants: x: n_query must be a number of at least 1"),
        (["--test_variants.trained.temperature", "2"], "test_variants: 'trained' is a row of test tables already"),
        ([VARIED[0], VARIED[1] % "[9, 3]"], "test_varied: n_way must be a number of at least 2 or a range"),
        ([VARIED[0], VARIED[1] % "5"], "would have the same file of records, trained-5-way-1-shot.jsonl"),
        (["--test_also", "{a/b: {}, a-b: {}}"], "would have the same file of records, a-b-trained-5-way-1-shot.jsonl"),
        (["--test_also", "{'': {}}"], "test_also: a further test set needs a name"),
        (["--method", "maml", "--train_n_way", "6"], "train_n_way is 6, but maml is made for at most 5 classes"),
        (["--method", "anil", "--train_n_way", "5", "--test_n_way", "5", "6"], "test_n_way is 6, but anil is made for"),
        (
            ["--method", "maml", "--method_options.n_way", "20", VARIED[0], VARIED[1] % "[5, 21]"],
            "test_varied: n_way is (5, 21), but maml is made for at most 20 classes",
        ),
        (["--backbone", "timm/test_resnet", "--backbone_options.features_only", "true"], "with features_only it would"),
        (["--backbone", "timm/test_resnet", "--backbone_options.foo", "1"], "cannot be made with {'foo': 1}: "),
        (["--backbone", "torchvision/resnet18", "--backbone_options.foo", "1"], "cannot be made with {'foo': 1}: "),
        (["--backbone", "timm/test_resne"], "timm has no model 'test_resne'. Nearest: test_resnet"),
        (["--backbone", "torchvision/resnet1"], "torchvision has no model 'resnet1'. Nearest: resnet18"),
        (["--pretrained_method"], "pretrained_method takes the weights of pretrained_run, and none is given"),
    ],
)
def test_options_of_training(words, says, capsys, monkeypatch):
    assert says in refuse([*TRAIN, *words], capsys, monkeypatch)
    assert not os.path.exists("run")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "--photos", "q", "--model", "m"], "PHOTOS is given by its place, without --photos"),
        (["predict", "q", "--model", "m", "--coverage", "2"], "coverage is a share between 0 and 1, got 2.0"),
        (["predict", "q", "--model", "."], "there is no checkpoint .: it is a folder"),
        (["check", "--support", "q", "--false_reject_rate", "-0.1"], "false_reject_rate is a share between 0 and 1"),
        (["fit", "--support", "q", "--out", "m", "--balanced", "--false_accept_rate", "0.1"], "are different ways"),
        (["reproduce", "--budget", "-1"], "budget is a number of minutes, 0 or more, got -1.0"),
        (["sweep", "--n_jobs", "0"], "n_jobs must be at least 1, got 0"),
        (["list", "methds"], "kind must be one of methods, backbones, datasets, got methds"),
        (["serve", "--model", "m"], "m is no folder that `fewshot export` wrote: there is no labels.json in it"),
    ],
)
def test_options_of_other_commands(words, says, capsys, monkeypatch):
    assert says in refuse(words, capsys, monkeypatch)


def test_names_of_runs_that_share_no_file_are_taken():
    check_options(ExperimentConfig(test_also={"a": {}, "b": {}}, test_variants={"c": {}, "d": {"n_query": "shots"}}))
    check_options(ExperimentConfig(method="maml", train_n_way=5, method_options={"n_way": 5}, test_n_way=[2, 5]))
    check_options(ExperimentConfig(method="maml", train_n_way=20, max_steps=0))  # nothing is trained


def test_episodes_of_measurements():
    for changes in ({"n_way": 1}, {"n_shot": (2, 1)}, {"n_query": 0}, {"n_episodes": 0}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            EvaluateConfig(run_dir="r", **changes)
        with pytest.raises(ConfigError, match=next(iter(changes))):
            CompareConfig(run_a="a", run_b="b", **changes)
    with pytest.raises(ConfigError, match="base_images must not be negative"):
        EvaluateConfig(run_dir="r", base_images=-2)


def test_values_of_which_nothing_can_be_made():
    with pytest.raises(ConfigError, match=r"backbone 'conv4' cannot be made with {'n_filters': -3}: .*negative"):
        create_backbone("conv4", n_filters=-3)
    with pytest.raises(ConfigError, match=r"method 'relation' cannot be made with {'n_hidden': -1}: .*negative"):
        create_method("relation", create_backbone("conv4", 3, 32, n_filters=4), n_hidden=-1)
    for side_px in (0, 1_000_000):
        with pytest.raises(ConfigError, match=f"sides from 1 to 16,384 px, got {side_px}"):
            create_backbone("conv4", 3, side_px)
    with pytest.raises(ConfigError, match="in_channels is a number of channels, at least 1, got -1"):
        create_backbone("conv4", -1)


def test_devices_that_there_are_none_of():
    for name in ("cud", "meta", "cpu:3", "cuda:99", ""):
        with pytest.raises(ConfigError, match="on this machine, but cpu"):
            find_device(name)
    assert find_device("cpu") == torch.device("cpu")
    fit = FewShotClassifier("conv4", pretrained=False, size_px=16, device="gpu").fit
    with pytest.raises(ConfigError, match="there is no 'gpu' on this machine"):
        fit(torch.zeros(4, 3, 16, 16), [0, 0, 1, 1])
