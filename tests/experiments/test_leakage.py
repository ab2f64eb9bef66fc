"""Classes and images that a run was trained on are found in validation, test and compared sets."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import striped
from PIL import Image
from test_cifar import invented_images, write_mosaics
from test_scripts import run
from test_tables import ONE, lines_of, result, scores

from fewshot import FewShotClassifier, ImageSet, TrainConfig, create_backbone, create_method, train
from fewshot.config import CompareConfig, ExperimentConfig, PretrainExperimentConfig
from fewshot.datasets import cifar_fs, load_dataset
from fewshot.datasets.coins import EURO_NUMBERS, _name_origin
from fewshot.errors import DataError, LeakageError
from fewshot.evaluation.records import Records
from fewshot.evaluation.report import format_table, format_title
from fewshot.experiments import build
from fewshot.experiments.build import load_split
from fewshot.experiments.starting import build_starting_method, check_row_unseen, check_unseen, load_training_sets
from fewshot.reproduction.comparison import compare_runs, format_summary
from fewshot.reproduction.tables import accuracies, published
from fewshot.runtime import seeding
from fewshot.training.leakage import TOLERATED_SHARE, Overlap, TrainingSet, find_overlap, read_training_sets
from fewshot.training.run_folder import RunFolder

QUICK = TrainConfig(
    max_steps=2, train_n_way=3, train_n_query=3, val_n_way=3, val_n_query=3, val_episodes=4, precision="float32",
)  # fmt: skip


def numbered(first: int, n: int, names: list[str], name: str = "numbered", split: str | None = None) -> ImageSet:
    """Images that show the numbers `first` to `first + n - 1`, dealt to the classes `names` in turn."""
    images = np.zeros((n, 1, 8, 8), np.uint8)
    images.reshape(n, -1)[:, :4] = np.arange(first, first + n)[:, None] >> np.array([0, 8, 16, 24]) & 255
    labels = np.sort(np.arange(n) % len(names))
    return ImageSet(images, labels, names, name=name, split=split)


def overlap(train_set: ImageSet, held_out: ImageSet) -> Overlap:
    return find_overlap([TrainingSet.of(train_set)], held_out)


# ---------------------------------------------------------------- which classes are the same


def test_a_class_is_known_by_its_origin_not_by_its_name():
    train_set = ImageSet(np.zeros((3, 1, 4, 4), np.uint8), [0, 1, 2], "abc", name="here", origins=["x/a", "x/b", "y/a"])
    held_out = ImageSet(np.ones((2, 1, 4, 4), np.uint8), [0, 1], "ab", name="there", origins=["x/b", "z/b"])
    assert overlap(train_set, held_out).classes == ("a",)
    assert overlap(train_set, held_out).mark == "1 of 2 classes seen in training"
    with pytest.raises(DataError, match="2 origins for 3 classes"):
        ImageSet(np.zeros((3, 1, 4, 4), np.uint8), [0, 1, 2], "abc", origins=["x", "y"])


def test_without_origins_the_name_of_the_set_counts():
    assert overlap(numbered(0, 4, ["a", "b"]), numbered(9, 4, ["b", "c"])).classes == ("b",)
    assert overlap(numbered(0, 4, ["a", "b"]), numbered(9, 4, ["b", "c"], name="another")).classes == ()


def test_selected_and_turned_classes_keep_their_origin():
    whole = numbered(0, 8, ["a", "b", "c", "d"])
    train_set, held_out = whole.select(["c", "a"]), whole.select(["b", "c"]).rotations_as_classes()
    assert train_set.origins == ("numbered/c", "numbered/a")
    found = overlap(train_set, held_out)
    assert found.classes == ("c/rot000", "c/rot090", "c/rot180", "c/rot270")
    assert (found.n_classes, found.n_seen_images, found.n_images) == (8, 2, 4)


@pytest.fixture
def cifar_root(monkeypatch, tmp_path) -> Path:
    """CIFAR-100 with six invented images a class."""
    sizes = {"N_TRAIN": 5, "N_TEST": 1, "IMAGES_PER_CLASS": 6, "MOSAIC_ROWS": 2, "MOSAIC_COLUMNS": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(cifar_fs, name, value)
    write_mosaics(tmp_path / "cifar_fs" / "cifar100_webp.zip", invented_images(), 2, 3)
    return tmp_path


def test_fc100_tests_classes_that_cifar_fs_trains(cifar_root):
    train_set, test_set = load_dataset("cifar_fs", "train", cifar_root), load_dataset("fc100", "test", cifar_root)
    found = overlap(train_set, test_set)
    assert found.mark == "11 of 20 classes seen in training"
    assert found.header == {"seen_classes": 11, "seen_images": 66, "seen_mark": found.mark}
    config = ExperimentConfig(dataset="cifar_fs", test_dataset="fc100", data_root=str(cifar_root), test_n_query=1)
    config.test_n_shot = [1]
    method = create_method("protonet", create_backbone("conv4", 3, 32, n_filters=8))
    with pytest.raises(LeakageError, match=r"this run was trained on 11 classes of ImageSet\(fc100/test: 20 classes"):
        check_row_unseen(method, config, train_set, build.load_test_sets(config)[""])
    own = replace(config, test_dataset=None)
    assert check_row_unseen(method, own, train_set, build.load_test_sets(own)[""]).mark == ""


@pytest.mark.needs_data
def test_omniglots_two_splits_share_characters(data_root):
    train_set, lake = (
        load_dataset("omniglot", split, data_root, protocol=protocol)
        for split, protocol in (("train", "vinyals"), ("test", "lake"))
    )
    found = overlap(train_set, lake)
    assert found.n_classes == 4 * 659
    assert len(found.classes) % 4 == 0
    assert 0 < len(found.classes) == 4 * found.n_seen_images // 20
    assert not overlap(train_set, load_dataset("omniglot", "test", data_root)).is_leak
    plain = load_dataset("omniglot", "test", data_root, protocol="lake", rotations=False, inverted=False)
    other_pixels = overlap(train_set, plain)
    assert (len(other_pixels.classes), other_pixels.n_seen_images) == (len(found.classes) // 4, 0)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["cifar_fs", "fc100", "world_coins", "omniglot", "glyphs"])
def test_published_splits_are_not_refused(data_root, name):
    """CIFAR-100 itself holds a few images twice, under two names."""
    train_set, val_set, test_set = (load_dataset(name, split, data_root) for split in ("train", "val", "test"))
    found = [overlap(train_set, held_out) for held_out in (val_set, test_set)]
    assert not any(o.is_leak for o in found)
    assert [o.n_seen_images for o in found] == {"cifar_fs": [8, 6], "fc100": [2, 1]}.get(name, [0, 0])


def test_spains_euro_coins_are_euro_coins():
    assert [_name_origin(f"{number:03d}_coin_spain") for number in (EURO_NUMBERS[0], EURO_NUMBERS[-1])] == [
        "euro_coins/1c", "euro_coins/2e",
    ]  # fmt: skip
    assert _name_origin("061_1_Krona_sweden") == "world_coins/061_1_Krona_sweden"


def pictures(root: Path, classes: list[str], n_each: int = 8, first: int = 0) -> Path:
    """A folder of noise pictures; equal numbers give equal pictures, and picture i has the number `first + i`."""
    for number in range(len(classes) * n_each):
        noise = seeding.numpy_generator(0, "picture", first + number).integers(0, 255, (16, 16), np.uint8)
        path = root / classes[number // n_each] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(path)
    return root


def test_imagenets_classes_are_known_in_any_folder(tmp_path):
    options = {"size_px": 16, "channels": 1}
    one = load_dataset("folder", "all", pictures(tmp_path / "one", ["n01532829", "n01558993"]), **options)
    other = load_dataset("folder", "all", pictures(tmp_path / "two", ["n01558993", "bird"], first=99), **options)
    assert overlap(one, other).classes == ("n01558993",)


# ---------------------------------------------------------------- which images are the same


def test_the_same_image_under_another_name_is_found():
    found = overlap(numbered(0, 20, ["a", "b"]), numbered(18, 6, ["c", "d"]))
    assert (found.classes, found.n_seen_images, found.n_images) == ((), 2, 6)
    assert found.image_classes == ("c",)
    assert found.mark == "2 of 6 images seen in training"
    assert "trained on 2 of the 6 images of it: of c, under other class names" in found.describe("it")


def test_images_of_other_sizes_are_not_compared_and_that_is_said():
    small = numbered(0, 20, ["a", "b"])
    large = ImageSet(np.zeros((4, 1, 9, 9), np.uint8), [0, 0, 1, 1], ["c", "d"])
    assert overlap(small, large).header == {"seen_classes": 0, "seen_images": None, "seen_mark": ""}
    assert find_overlap([], large).header == {"seen_classes": 0, "seen_images": 0, "seen_mark": ""}


def test_a_few_copies_among_thousands_are_counted_and_tolerated():
    train_set, n = numbered(0, 3000, ["a", "b"]), 2000
    assert n * TOLERATED_SHARE == 2
    for shared, leak in ((2, False), (3, True)):
        found = overlap(train_set, numbered(3000 - shared, n, ["c", "d"]))
        assert (found.n_seen_images, found.is_leak, bool(found.mark)) == (shared, leak, leak)


def test_as_many_images_as_mini_imagenet_has_are_compared_in_less_than_a_second():
    draw = seeding.numpy_generator(0, "digests")
    trained = TrainingSet("a", "", (3, 84, 84), ("x",), draw.integers(0, 255, (38_400, 8), np.uint8))
    pixels = np.broadcast_to(np.zeros((1, 1, 1, 1), np.uint8), (12_000, 3, 84, 84))
    digests = np.concatenate([trained.digests[:5], draw.integers(0, 255, (11_995, 8), np.uint8)])
    held_out = ImageSet(pixels[:1].copy().repeat(2, 0), [0, 1], ["a", "b"], digests=digests[:2])
    held_out.labels, held_out.digests = np.zeros(12_000, int), digests
    start = time.perf_counter()
    assert find_overlap([trained], held_out).n_seen_images == 5
    assert time.perf_counter() - start < 1


# ---------------------------------------------------------------- training and validation


def test_fit_refuses_training_images_in_validation(small_protonet, caplog):
    train_set = striped(6, split="train")
    val_set = striped(6, split="val")  # the same seed: the same pixels under other class names
    with pytest.raises(LeakageError, match=r"of the 48 images of ImageSet\(striped/val.*under other class names"):
        train(small_protonet(), train_set, val_set, QUICK)
    assert train(small_protonet(), train_set, val_set, replace(QUICK, allow_seen_classes=True)).steps == 2
    assert "trained on 48 of the 48 images" in caplog.text


def test_fit_refuses_training_classes_in_validation_whatever_the_sets_are_called(small_protonet):
    train_set, val_set = striped(6, split="train"), striped(6, split="val", seed=1)
    val_set.name, val_set.origins = "another", (train_set.origins[2], *val_set.origins[1:])
    with pytest.raises(LeakageError, match="'train' and 'val' overlap in 1 class: val-1-0; choose others, or set"):
        train(small_protonet(), train_set, val_set, QUICK)
    assert train(small_protonet(), train_set, val_set, replace(QUICK, allow_seen_classes=True)).steps == 2


# ---------------------------------------------------------------- runs

SPLITS = {"train": ["c0", "c1", "c2", "c3"], "val": ["c4", "c5"], "test": ["c6", "c7"]}
OTHER = {"train": ["c0", "c1"], "val": ["c4", "c5"], "test": ["c2", "c3", "c7"]}
SMALL = dict(
    dataset="folder", dataset_options={"size_px": 16, "channels": 1, "split_file": "splits.json"},
    backbone_options={"n_filters": 8}, max_steps=2, val_n_way=2, val_n_query=3, val_episodes=4, test_n_way=[2],
    test_n_shot=[1], test_n_query=3, test_episodes=6, precision="float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Path:
    root = pictures(tmp_path_factory.mktemp("data") / "pets", [f"c{i}" for i in range(8)])
    for name, splits in (("splits", SPLITS), ("other", OTHER)):
        (root / f"{name}.json").write_text(json.dumps(splits))
    return root


def config_of(pets: Path, run_dir: Path, kind: type = ExperimentConfig, **changes: object):
    options = {**SMALL, "data_root": str(pets), "run_dir": str(run_dir), **changes}
    return kind(**({"train_n_way": 2, **options} if kind is ExperimentConfig else options))


def trained(config: ExperimentConfig) -> ExperimentConfig:
    train_set, val_set = load_split(config, config.train_split), load_split(config, "val")
    train(build_starting_method(config, train_set), train_set, val_set, config)
    return config


@pytest.fixture(scope="module")
def finished(pets, tmp_path_factory) -> ExperimentConfig:
    return trained(config_of(pets, tmp_path_factory.mktemp("runs") / "one"))


def other_test_set(config: ExperimentConfig) -> ImageSet:
    return load_split(config, "test", split_file="other.json")


def test_a_run_remembers_what_it_was_trained_on(finished, pets):
    (stored,) = read_training_sets(RunFolder(finished.run_dir))
    train_set = load_split(finished, "train")
    assert (stored.name, stored.fingerprint) == ("pets/train", train_set.fingerprint)
    assert stored.origins == tuple(f"pets/{name}" for name in SPLITS["train"])
    np.testing.assert_array_equal(stored.digests, train_set.digests)


@pytest.mark.parametrize("remembers", [True, False], ids=["new run", "run of an early version"])
def test_another_split_file_is_refused_or_marked(finished, tmp_path, remembers):
    folder = RunFolder(shutil.copytree(finished.run_dir, tmp_path / "run"))
    if not remembers:
        folder.training_sets.unlink()
    assert check_unseen(folder.path, load_split(finished, "test"), False).header["seen_classes"] == 0
    with pytest.raises(
        LeakageError, match=r"was trained on 2 classes of ImageSet\(pets/test: 3.*: c2, c3; choose others"
    ):
        check_unseen(folder.path, other_test_set(finished), False)
    found = check_unseen(folder.path, other_test_set(finished), True)
    assert found.header == {"seen_classes": 2, "seen_images": 16, "seen_mark": "2 of 3 classes seen in training"}


def test_the_same_pictures_under_other_names_in_a_test_set(finished, tmp_path):
    """The pictures of c0 and c1, which were trained on, are called dog and cat here; a third class is new."""
    root = pictures(tmp_path / "others", ["dog", "cat"])
    pictures(root, ["emu"], first=999)
    test_set = load_dataset("folder", "all", root, size_px=16, channels=1)
    with pytest.raises(LeakageError, match=r"trained on 16 of the 24 images .* of cat, dog, under other class names"):
        check_unseen(finished.run_dir, test_set, False)
    assert check_unseen(finished.run_dir, test_set, True).mark == "16 of 24 images seen in training"


def test_lost_training_data_are_said_to_be_lost(finished, tmp_path):
    folder = RunFolder(shutil.copytree(finished.run_dir, tmp_path / "run"))
    folder.training_sets.unlink()
    values = json.loads(folder.config.read_text()) | {"data_root": str(tmp_path / "gone")}
    folder.config.write_text(json.dumps(values))
    words = (
        r"it is unknown whether classes of .* does not say which images it was trained on, and they cannot be loaded"
    )
    with pytest.raises(LeakageError, match=rf"{words} .*gone.*--allow_seen_classes"):
        check_unseen(folder.path, load_split(finished, "test"), False)
    found = check_unseen(folder.path, load_split(finished, "test"), True)
    assert found.header == {"seen_classes": None, "seen_images": None, "seen_mark": "classes seen in training: unknown"}


def test_what_a_run_starts_from_counts(finished, pets, tmp_path):
    """Stage 1 was trained on c0 to c3, stage 2 on c0 and c1: both count for a test set of stage 2."""
    options = {"split_file": "late.json", "size_px": 16, "channels": 1}
    (pets / "late.json").write_text(json.dumps({"train": ["c0", "c1"], "val": ["c4", "c5"], "test": ["c6", "c7"]}))
    start = {"pretrained_run": finished.run_dir, "dataset_options": options}
    second = trained(config_of(pets, tmp_path / "two", **start))
    third = trained(config_of(pets, tmp_path / "three", **start | {"pretrained_run": second.run_dir}))
    for config in (second, third):
        assert len(load_training_sets(config.run_dir)) == 2
        with pytest.raises(LeakageError, match=r"trained on 2 classes of .* c2, c3"):
            check_unseen(config.run_dir, other_test_set(config), False)
    for folder in (second.run_dir, finished.run_dir):  # what it starts from may go
        assert read_training_sets(RunFolder(folder)) is not None
    RunFolder(third.run_dir).training_sets.unlink()  # as in early versions: by way of the runs it starts from
    assert len(load_training_sets(third.run_dir)) == 2 + 1
    gone = replace(third, pretrained_run=str(tmp_path / "none"))
    RunFolder(third.run_dir).config.write_text(json.dumps({**vars(gone)}))
    with pytest.raises(LeakageError, match=r"the run .*none no longer exists, so it is unknown what it was trained on"):
        check_unseen(third.run_dir, load_split(third, "test"), False)


def test_a_run_cannot_start_from_one_that_saw_its_test_classes(finished, pets, tmp_path):
    other = {**SMALL["dataset_options"], "split_file": "other.json"}
    config = config_of(pets, tmp_path / "two", pretrained_run=finished.run_dir, dataset_options=other)
    train_set = load_split(config, "train")
    with pytest.raises(LeakageError, match=r"one was trained on 2 classes of ImageSet\(pets/test"):
        build_starting_method(config, train_set)
    build_starting_method(replace(config, allow_seen_classes=True), train_set)


def test_only_rows_that_saw_them_are_marked(finished, pets, tmp_path):
    config = config_of(pets, tmp_path / "two", pretrained_run=finished.run_dir, allow_seen_classes=True)
    config.dataset_options = {**config.dataset_options, "split_file": "other.json"}
    train_set = load_split(config, "train")  # c0 and c1
    rows = {}
    method = build_starting_method(config, train_set)
    for row in ("trained", "few steps", "pretrained", "untrained", "frozen", "raw pixels"):
        rows[row] = len(check_row_unseen(method, config, train_set, load_split(config, "test"), row).classes)
    assert rows == {"trained": 2, "few steps": 2, "pretrained": 2, "untrained": 0, "frozen": 0, "raw pixels": 0}
    alone = replace(config, pretrained_run=None)
    assert not check_row_unseen(method, alone, train_set, load_split(config, "test")).is_leak
    seen = load_split(config, "train")
    assert check_row_unseen(method, alone, train_set, seen).is_leak
    assert not check_row_unseen(method, replace(alone, max_steps=0), train_set, seen).is_leak
    means = create_method("simpleshot", create_backbone("conv4", 1, 16, n_filters=8))
    assert check_row_unseen(means, replace(alone, max_steps=0), train_set, seen, "untrained").is_leak


def test_a_run_without_training_was_trained_on_nothing(pets, tmp_path):
    config = trained(config_of(pets, tmp_path / "run", max_steps=0))
    assert read_training_sets(RunFolder(config.run_dir)) == []
    assert not check_unseen(config.run_dir, other_test_set(config), False).is_leak


def test_a_classifier_of_stage_one_is_held_to_the_same(pets, tmp_path):
    config = config_of(pets, tmp_path / "run", PretrainExperimentConfig, batch_size=8)
    config.test_also = {"other": {"split_file": "other.json"}}
    method, train_set = create_method("protonet", None), load_split(config, "train")
    sets = build.load_test_sets(config)
    assert not check_row_unseen(method, config, train_set, sets[""]).is_leak
    with pytest.raises(LeakageError, match="this run was trained on 2 classes"):
        check_row_unseen(method, config, train_set, sets["other"])


def test_photographs_that_the_estimators_network_was_trained_on_are_named(finished, pets, tmp_path, caplog):
    train_set = load_split(finished, "train")
    labels = [name for name in SPLITS["train"] for _ in range(8)]
    images = [train_set.images[row, 0].numpy() for row in range(len(labels))]
    FewShotClassifier(run_dir=finished.run_dir).fit(images[4:12], labels[4:12])
    assert f"{finished.run_dir} was trained on 8 of these 8 images" in caplog.text
    caplog.clear()
    FewShotClassifier(run_dir=finished.run_dir).fit([255 - image for image in images[4:12]], labels[4:12])
    assert "trained on" not in caplog.text


# ---------------------------------------------------------------- scripts and tables


def arguments_of(pets: Path, run_dir: Path) -> list[object]:
    values = {**SMALL, "data_root": str(pets), "train_n_way": 2, "run_dir": str(run_dir)}
    values["test_also"] = {"other": {"split_file": "other.json"}}
    recipe = run_dir.parent / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    return ["--config", recipe]


def test_scripts_refuse_before_training_and_mark_what_they_are_told_to_measure(pets, tmp_path):
    arguments = arguments_of(pets, tmp_path / "run")
    refused = run("train_episodic.py", *arguments)
    assert refused.returncode == 2
    assert "this run was trained on 2 classes of ImageSet(pets/test: 3 classes" in refused.stderr
    assert "--allow_seen_classes" in refused.stderr
    assert not (tmp_path / "run").exists()
    allowed = run("train_episodic.py", *arguments, "--allow_seen_classes")
    assert allowed.returncode == 0, allowed.stderr
    plain, marked = allowed.stdout.split("Test classes, some of them seen in training (other): protonet")
    assert "Test classes, never seen in training: protonet" in plain
    assert "seen in training)" not in plain
    names = [line.split("  ")[0] for line in marked.splitlines() if "±" in line][:3]
    assert names == ["trained (2 of 3 classes seen in training)", "untrained", "raw pixels"]
    header = Records.read(tmp_path / "run" / "records" / "other-trained-2-way-1-shot.jsonl").header
    assert (header.seen_classes, header.seen_images) == (2, 16)

    episodes = ["--run_dir", tmp_path / "run", "--data_root", pets, "--n_way", 2, "--n_query", 3, "--n_episodes", 5]
    other = ["--dataset_options.split_file", "other.json"]
    refused = run("evaluate.py", *episodes, *other)
    assert refused.returncode == 2
    assert "was trained on 2 classes of ImageSet(pets/test: 3 classes" in refused.stderr
    allowed = run("evaluate.py", *episodes, *other, "--allow_seen_classes", "--json", tmp_path / "records.jsonl")
    assert allowed.returncode == 0, allowed.stderr
    assert "2-way 1-shot, 3 queries a class (2 of 3 classes seen in training): " in allowed.stdout
    assert Records.read(tmp_path / "records.jsonl").header.seen_classes == 2
    own = run("evaluate.py", *episodes)
    assert own.returncode == 0, own.stderr
    assert "seen in training" not in own.stdout


def test_a_comparison_refuses_or_marks_each_run(finished, pets, tmp_path):
    untrained = trained(config_of(pets, tmp_path / "untrained", max_steps=0))
    options = {"dataset_options": {"split_file": "other.json"}, "data_root": str(pets), "n_query": 3, "n_episodes": 6}
    config = CompareConfig(run_a=finished.run_dir, run_b=untrained.run_dir, n_way=2, precision="float32", **options)
    with pytest.raises(LeakageError, match="was trained on 2 classes"):
        compare_runs(config)
    lines = format_summary(compare_runs(replace(config, allow_seen_classes=True))).splitlines()
    assert lines[0].startswith("A")
    assert lines[0].endswith(" (2 of 3 classes seen in training)")
    assert "seen in training" not in lines[1]


def test_every_table_marks_the_row(tmp_path):
    mark = {"seen_mark": "11 of 20 classes seen in training"}
    marked, plain = [scores([0.9, 0.8], **mark)], [scores([0.7, 0.6], seen_mark="")]
    assert "trained (11 of 20 classes seen in training)" in format_table({"trained": marked, "untrained": plain})
    assert format_title({"a": plain, "b": marked}, "", "protonet").startswith(
        "Test classes, some of them seen in training"
    )
    assert format_title({"a": plain}, "x", "maml") == "Test classes, never seen in training (x): maml"
    results = [result("protonet", trained=plain), result("maml", trained=marked)]
    rows = accuracies.make_rows(
        results, {name: accuracies.Plan(name, {"trained": [ONE]}) for name in ("protonet", "maml")}
    )
    name = "maml (11 of 20 classes seen in training)"
    assert set(lines_of(accuracies.format_accuracies(rows, [ONE]))) == {"protonet", name}
    assert set(lines_of(accuracies.format_differences(rows, [ONE], "protonet"))) == {name}
    assert "minus maml (11 of 20 classes seen in training)" in accuracies.format_differences(rows, [ONE], "maml")
    numbers = {"maml": {"paper": {"source": "a paper", "5w1s": 80}}}
    assert set(lines_of(published.format_against(rows, [ONE], numbers))) == {name}
    early = [scores([0.9, 0.8])]  # records of early versions say nothing
    assert format_table({"trained": early}).splitlines()[2].startswith("trained  ")
