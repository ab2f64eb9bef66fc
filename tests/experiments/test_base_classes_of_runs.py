"""Held-out images of the training classes: nothing is trained on them, and the network is asked for their classes."""

from pathlib import Path

import pytest
from conftest import striped

from fewshot import ImageSet, Records
from fewshot.commands import execute
from fewshot.config import ExperimentConfig
from fewshot.datasets import DATASETS
from fewshot.errors import ConfigError, LeakageError
from fewshot.experiments.base_classes import load_base_classes
from fewshot.experiments.build import load_run, load_split
from fewshot.images.holding_out import hold_out_images
from fewshot.training.leakage import find_seen_images, read_training_sets
from fewshot.training.run_folder import RunFolder

QUICK = (
    "--dataset bars --backbone_options.n_filters 8 --precision float32 --val_n_way 3 --val_n_query 2 --val_episodes 2 "
    "--test_n_way [3] --test_n_shot [2] --test_n_query 2 --test_episodes 4 --test_floor false "
)
STAGE_ONE = "--max_steps 3 --batch_size 16 --val_every_steps 3 "
TUNED = "--method finetune --max_steps 0 --method_options.mode full --method_options.lr 0.05 "
HELD, ASKED = "--held_out_images 3 ", "--test_base_images 20 "


def bars(root: Path, split: str) -> ImageSet:
    """Eight classes of ten images, others in each split."""
    return striped(8, n_images=10, split=split, seed=("train", "val", "test").index(split))


def run(command: str, words: str, **places: Path) -> None:
    """Run a command with options that are words, and options that are places."""
    execute(command, [*words.split(), *(word for name, path in places.items() for word in (f"--{name}", str(path)))])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """stage_one held images out, careless did not; tuned starts from the one."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS._factories, "bars", bars)
        run("pretrain", QUICK + STAGE_ONE + HELD + ASKED, run_dir=folder / "stage_one")
        run("pretrain", QUICK + STAGE_ONE, run_dir=folder / "careless")
        run("train", QUICK + TUNED + HELD + ASKED, pretrained_run=folder / "stage_one", run_dir=folder / "tuned")
        yield folder


def record_of(folder: Path) -> Records:
    (path,) = (folder / "records").rglob("*.jsonl")
    return Records.read(path)


def test_held_out_images_are_not_trained_on(runs):
    kept, held = hold_out_images(bars(runs, "train"), 3)
    (trained,) = read_training_sets(RunFolder(runs / "stage_one"))
    assert trained.fingerprint == kept.fingerprint
    assert not find_seen_images([trained], held.digests).any()
    config = load_run(runs / "stage_one")[1]
    assert load_split(config, "train").fingerprint == kept.fingerprint
    assert load_split(config, "val").class_counts.tolist() == [10] * 8  # of other splits nothing is held out


def test_the_classifier_of_stage_one_is_asked_before_and_after(runs):
    base = record_of(runs / "tuned").header.base_classes
    assert (base["classifier"], base["n_classes"], base["n_held_out"], base["n_images"]) == (
        "own classifier",
        8,
        24,
        20,
    )
    before, after = record_of(runs / "tuned").base_shares
    assert (before != after).any()
    as_it_is = record_of(runs / "stage_one")
    assert as_it_is.base_shares[0].tolist() == as_it_is.base_shares[1].tolist() == before.tolist()


def test_evaluate_asks_too(runs, capsys):
    words = "--n_way 3 --n_shot 2 --n_query 2 --n_episodes 3 --precision float32 --base_images 24"
    run("evaluate", words, run_dir=runs / "tuned", json=runs / "asked.jsonl")
    before, _ = Records.read(runs / "asked.jsonl").base_shares
    assert before.tolist() == [before[0]] * 3  # all images that are held out, each time
    printed = capsys.readouterr().out
    assert f"8 base classes (own classifier, 24 held-out images an episode): {100 * before[0]:.2f} ± 0.00" in printed
    with pytest.raises(ConfigError, match="none was held out"):
        run("evaluate", words, run_dir=runs / "careless", json=runs / "no.jsonl")


def test_a_network_that_was_trained_on_them_is_refused(runs):
    with pytest.raises(LeakageError, match="was trained on 24 of the 24 images that are held out here"):
        run("train", QUICK + TUNED + HELD + ASKED, pretrained_run=runs / "careless", run_dir=runs / "leaking")


def test_without_a_classifier_class_means_answer(runs):
    method, config = load_run(runs / "tuned")
    config.pretrained_run = None
    base = load_base_classes(config, method, 5)
    assert base.kind == "class means"
    assert base.classifier.means.shape == (1, 8, method.backbone.feature_dim)


def test_options_that_cannot_be():
    with pytest.raises(ConfigError, match="give held_out_images"):
        ExperimentConfig(test_base_images=5)
    with pytest.raises(ConfigError, match="held_out_images must not be negative"):
        ExperimentConfig(held_out_images=-1)
