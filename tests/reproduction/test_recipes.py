"""Every recipe, without its data: it parses, builds, fits the data set's classes, and takes a step."""

import inspect
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from method_cases import skip_without_package

from fewshot import Episode, EpisodeSampler, EpisodeSpec, ImageSet, cli, list_methods
from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.config import recipes as recipe_files
from fewshot.datasets.loading import DATASETS
from fewshot.errors import ConfigError
from fewshot.experiments.build import AnyConfig, build_classifier, build_method
from fewshot.experiments.cells import list_test_cells
from fewshot.images.augment import make_augmentation
from fewshot.methods import Method, find_method
from fewshot.reproduction.recipes import read_entries
from fewshot.sampling.batches import Batch
from fewshot.training.optimization import make_optimizer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "scripts" / "recipes"
# Image shape, images of a class, classes of each split: of the data sets' own documentation.
# Omniglot: the Vinyals split, 1,028/172/423 characters, times four rotations.
DATA = {
    "glyphs": ((1, 28, 28), 20, {"train": 462, "val": 132, "test": 110}),
    "omniglot": ((1, 28, 28), 20, {"train": 4112, "val": 688, "test": 1692}),
    "cifar_fs": ((3, 32, 32), 600, {"train": 64, "val": 16, "test": 20}),
    "mini_imagenet": ((3, 84, 84), 600, {"train": 64, "val": 16, "test": 20}),
    # 125/28/58 classes of 6 to 36 images; recipes leave out those with fewer than 9: one of training, one of test
    "world_coins": ((3, 84, 84), 9, {"train": 124, "val": 28, "test": 57}),
    "cub": ((3, 84, 84), 41, {"train": 100, "val": 50, "test": 50}),  # 41 to 60 photographs of a bird
    "tiered_imagenet": ((3, 84, 84), 732, {"train": 351, "val": 97, "test": 160}),  # 732 to 1,300 images of a class
}
# Of test sets that recipes train on another set for: classes, images of a class, groups of a class or none
TEST_SETS = {
    "cifar_fs": (20, 600, 0),
    "omniglot": (423, 20, 0),  # without rotations
    "world_coins": (32, 20, 0),  # of those with 20 images or more
    "euro_coins": (8, 25, 25),
    "gtsrb": (43, 70, 7),
    "cub": (50, 41, 0),
}
DATASET_OF = {
    "glyphs": "glyphs",
    "omniglot": "omniglot",
    "cifar_fs": "cifar_fs",
    "mini_imagenet": "mini_imagenet",
    "coins": "world_coins",
    "euro_coins": "world_coins",  # where it trains; it tests elsewhere
    "euro_finetune": "world_coins",
    "closer_look": "mini_imagenet",
    "cub": "cub",
    "tiered_imagenet": "tiered_imagenet",
    "gtsrb": "cifar_fs",  # nothing is learnt from it; nor in cross_domain's rows of published weights
    "cross_domain": "mini_imagenet",
    "cifar_fs_finetune": "cifar_fs",
}
SOME_METHODS = {
    "euro_coins", "euro_finetune", "cifar_fs_finetune", "closer_look", "cub", "tiered_imagenet", "gtsrb",
    "cross_domain",
}  # fmt: skip
# Each training and row that the recipes ask for, such as `cifar_fs/baseline++`.
PLANNED = {f"{group}/{name}": p for group in DATASET_OF for name, p in read_entries(RECIPES / group).items()}
EVERYWHERE = sorted(PLANNED)
ALL = [name for name in EVERYWHERE if PLANNED[name].entry.test_set in ("", "cifar_fs", "birds")]  # each row once
STAGE_1 = [name for name in ALL if PLANNED[name].entry.kind == "pretrain"]
EPISODIC = [name for name in ALL if name not in STAGE_1]
TRAININGS = [name for name in ALL if not PLANNED[name].is_row]
FILES = sorted(RECIPES.glob("*/*.yaml"))
N_FILTERS = 8  # instead of 64


def is_stepped(name: str) -> bool:
    """Whether steps are taken: ResNet-18 and 34 are ResNet-10 with more blocks."""
    return not name.endswith(("_resnet18", "_resnet18_birds", "_resnet34"))


@cache
def parsed(name: str, *arguments: str) -> AnyConfig:
    kind = PretrainExperimentConfig if name in STAGE_1 else ExperimentConfig
    planned = PLANNED[name]
    row = ["--row", planned.entry.name] if planned.is_row else []
    return cli.parse(kind, "", ["--config", str(planned.path), *row, *arguments])


def head(name: str) -> str:
    """The comment that the file of a training or row begins with, on one line."""
    lines = [line for line in PLANNED[name].path.read_text().splitlines() if line.startswith("#")]
    return " ".join(" ".join(lines).replace("#", " ").split())


@cache
def classes_only(n_classes: int, n_images: int) -> ImageSet:
    """As many classes and images as a split has, of one pixel each."""
    pixels = torch.zeros(n_classes * n_images, 1, 1, 1, dtype=torch.uint8)
    return ImageSet(pixels, np.repeat(np.arange(n_classes), n_images), [str(c) for c in range(n_classes)])


def split(config: AnyConfig, part: str, **changes: object) -> ImageSet:
    """What a split holds, as the recipe's options say; those that are known here change no count but rotations."""
    if part == "test" and config.test_dataset:
        n_classes, n_images, n_groups = TEST_SETS[config.test_dataset]
        signature = inspect.signature(DATASETS[config.test_dataset])
        signature.bind(Path(), part, **config.test_dataset_options)  # raises for an option that the data set has not
        known = {"size_px", "cut_circles"}  # these change no count; the others are counted above
        counted = {"omniglot": {"rotations": False, "inverted": False}, "world_coins": {"min_images": 20}}
        others = {key: value for key, value in config.test_dataset_options.items() if key not in known}
        assert others == counted.get(config.test_dataset, {}), "say above what this option does to the classes"
        plain = classes_only(n_classes, n_images)
        groups = np.arange(len(plain)) % n_groups if n_groups else None
        return ImageSet(plain.images, plain.labels, plain.class_names, groups=groups)
    _, n_images, n_classes = DATA[config.dataset]
    options = {**config.dataset_options, **changes}
    signature = inspect.signature(DATASETS[config.dataset])
    signature.bind(Path(), part, **options)  # raises for an option that the data set has not
    known = {"resize", "rotations", "min_images", "without_euro", "cut_circles", "size_px"}
    assert options.keys() <= known, "say here what this option does to the classes"
    assert options.get("min_images", n_images) == n_images
    turns = 4 if options.get("rotations") is False else 1
    return classes_only(n_classes[part] // turns, n_images)


def small_method(config: ExperimentConfig) -> Method:
    skip_without_package(config.method)
    return build_method(with_small_backbone(config), image_shape(config))


def image_shape(config: AnyConfig) -> tuple[int, ...]:
    """Of the recipe's training images; smaller ones for deep networks (relation compares maps of 2 x 2 or more)."""
    side_px = 64 if getattr(config, "method", "") == "relation" else 32
    return (3, side_px, side_px) if config.backbone.startswith("resnet") else DATA[config.dataset][0]


def with_small_backbone(config: AnyConfig) -> AnyConfig:
    """The recipe's backbone with fewer filters; a published one without its weights, for small images."""
    if config.backbone == "efficientnet-lite0":
        views = {"views": config.backbone_options["views"]} if getattr(config, "method", "") == "aligned" else {}
        side_px = 64 if getattr(config, "method", "") == "relation" else 32  # it compares maps of 2 x 2 or more
        return replace(config, backbone_options={"input_px": side_px, **views})
    if config.backbone == "pixels" or config.backbone in ("resnet10", "resnet18", "resnet34"):
        return config
    if config.backbone.startswith("resnet12"):
        return replace(config, backbone_options={**config.backbone_options, "channels": 4 * [N_FILTERS]})
    n_filters = 4 * [N_FILTERS] if config.backbone.startswith("rrnet") else N_FILTERS  # of each block, or of all
    return replace(config, backbone_options={**config.backbone_options, "n_filters": n_filters})


def small_episode(config: ExperimentConfig, n_episodes: int = 2) -> Episode:
    """Random images: at most 5 ways and 2 queries a class of the recipe's own training episodes."""
    generator = torch.Generator().manual_seed(0)
    way, shot, n_query = (np.max(count) for count in (config.train_n_way, config.train_n_shot, config.train_n_query))
    way, n_query = min(int(way), 5), min(int(n_query), 2)
    shape = (3 * way * (shot + n_query), *image_shape(config))
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) // (shot + n_query)
    sampler = EpisodeSampler(ImageSet(images, labels, range(3 * way)), EpisodeSpec(way, int(shot), n_query))
    return sampler.batch(0, n_episodes).fill(sampler.data)


def random_batch(shape: tuple[int, ...], n_classes: int, n_images: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n_images, *shape), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.randint(0, n_classes, (n_images,), generator=generator))


def assert_a_step_is_finite(method: Method, batch: Episode | Batch, config: AnyConfig) -> None:
    optimizer = make_optimizer(method, config)
    before = [p.detach().clone() for p in method.parameters()]
    loss, accuracy = method.train().training_step(batch)
    loss.backward()
    optimizer.step()
    assert loss.ndim == 0
    assert loss.isfinite()
    assert 0 <= accuracy <= 1
    assert all(p.isfinite().all() for p in method.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(method.parameters(), before, strict=True))


def test_there_are_recipes_for_known_data_sets_only():
    assert {path.name for path in RECIPES.iterdir()} == set(DATASET_OF)
    assert set(DATASET_OF.values()) == DATA.keys()


@pytest.mark.parametrize("group", sorted(DATASET_OF.keys() - SOME_METHODS))
def test_every_method_has_a_recipe(group):
    configs = [parsed(name) for name in EPISODIC if name.startswith(f"{group}/")]
    without = set() if group == "glyphs" else {"finetune"}  # its table is euro_finetune
    without |= {"aligned"} if group in ("omniglot", "cifar_fs", "mini_imagenet") else set()  # for what lies any way up
    published = {name for name in list_methods() if find_method(name).published}
    assert {config.method for config in configs if find_method(config.method).published} == published - without
    stage_1 = {parsed(name).classifier for name in STAGE_1 if name.startswith(f"{group}/")}
    assert stage_1 == {"linear", "cosine"}


@pytest.mark.parametrize("name", ALL)
def test_it_belongs_where_it_lies(name):
    config = parsed(name)
    group, own = name.split("/")
    assert config.dataset == ("cifar_fs" if group == "cross_domain" and "_lite0" in own else DATASET_OF[group])
    if name in EPISODIC:
        assert own == config.method or own.startswith(f"{config.method}_")
    if name in TRAININGS:
        script = "pretrain.py" if name in STAGE_1 else "train_episodic.py"
        command = f"# Command:  python scripts/{script} --config scripts/recipes/{name}.yaml"
        assert command in PLANNED[name].path.read_text()


@pytest.mark.parametrize("name", EVERYWHERE)
def test_its_episodes_fit_the_classes(name):
    config = parsed(name)
    make_augmentation(config.augmentation)  # raises for an unknown limit
    EpisodeSampler(split(config, "val"), EpisodeSpec(config.val_n_way, config.val_n_shot, config.val_n_query))
    for changes in ({}, *config.test_also.values()):
        for cell in list_test_cells(config):
            EpisodeSampler(split(config, "test", **changes), cell)
    if name in EPISODIC and config.max_steps:
        spec = EpisodeSpec(config.train_n_way, config.train_n_shot, config.train_n_query, config.train_disjoint_groups)
        EpisodeSampler(split(config, "train"), spec)
    if name in STAGE_1:
        assert config.batch_size <= len(split(config, "train"))


@pytest.mark.parametrize("name", [name for name in EPISODIC if is_stepped(name)])
def test_a_learned_classifier_has_enough_classes(name):
    config = parsed(name)
    n_way = getattr(small_method(config), "n_way", None)
    if n_way is not None:
        if config.max_steps:
            assert np.max(config.train_n_way) == n_way  # a class that no episode trains would be worth nothing
        assert max(np.max(config.val_n_way), *config.test_n_way) <= n_way


@pytest.mark.parametrize("name", [name for name in EPISODIC if is_stepped(name)])
def test_a_step_of_the_method_is_finite(name):
    config = parsed(name)
    method, episode = small_method(config), small_episode(config)
    if method.needs_base_features:
        batch = random_batch(image_shape(config), n_classes=5)
        method.learn_base_classes(method.eval().encode(batch.images).detach(), batch.labels)
    if config.max_steps:
        assert_a_step_is_finite(method, episode, config)
    with torch.no_grad():
        logits = method.eval()(episode.support, episode.support_labels, episode.query, episode.n_way)
    assert logits.shape == (len(episode), episode.query.shape[1], episode.n_way)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", [name for name in STAGE_1 if is_stepped(name)])
def test_a_step_of_the_classifier_is_finite(name):
    config = parsed(name)
    shape, n_classes = image_shape(config), split(config, "train").n_classes
    config = with_small_backbone(config)
    assert_a_step_is_finite(build_classifier(config, shape, n_classes), random_batch(shape, n_classes), config)


def without(options: dict, name: str) -> dict:
    return {key: value for key, value in options.items() if key != name}


@pytest.mark.parametrize("name", EPISODIC)
def test_a_first_stage_is_a_recipe_that_fits(name):
    config = parsed(name)
    if config.pretrained_run is None:
        nothing_to_train = config.backbone_options.get("pretrained") or config.backbone == "pixels"
        assert config.max_steps > 0 or nothing_to_train, "nothing is trained, in no stage"
        return
    first = "/".join(Path(config.pretrained_run).parts[-2:])
    stage_1 = parsed(first)
    assert stage_1.backbone == config.backbone
    if config.pretrained_method:
        assert (stage_1.method, stage_1.method_options) == (config.method, config.method_options)
        assert stage_1.dataset_options == config.dataset_options
        return
    assert first in STAGE_1
    assert PLANNED[first].path.stem == PLANNED[first].entry.name.removesuffix(f"_{config.backbone}")
    assert stage_1.run_dir == config.pretrained_run
    assert stage_1.backbone_options == without(config.backbone_options, "views")
    assert without(stage_1.dataset_options, "cut_circles") == config.dataset_options
    if not name.startswith("euro_coins/") and "_lite0" not in name:  # these have one stage 1 for all
        assert stage_1.classifier == ("cosine" if config.method == "baseline++" else "linear")
    if name in TRAININGS:
        assert PLANNED[first].path.name in head(name)


@pytest.mark.parametrize("name", [name for name in EPISODIC if name in TRAININGS and "--method_options." in head(name)])
def test_options_that_a_head_names_are_accepted(name):
    named = re.findall(r"(--[a-z_.]+) (\[[^]]*\]|[\w.-]*\w)", head(name).split(f"{name}.yaml ", 1)[1])
    config, changed = parsed(name), parsed(name, *(word for pair in named for word in pair))
    asked = {option.split(".")[1]: json.loads(value) for option, value in named if "--method_options." in option}
    assert changed.method_options == config.method_options | asked  # those of the recipe stay
    method = small_method(changed)  # knows the options
    if asked.get("transductive"):
        assert method.transductive
        assert not small_method(config).transductive


def resolved(path: Path, said: dict, monkeypatch: pytest.MonkeyPatch) -> list[AnyConfig]:
    """What the entries of a recipe are, where the file `path` says `said`."""
    real = recipe_files.read_options
    monkeypatch.setattr(recipe_files, "read_options", lambda other: said if other == path else real(other))
    classes = {"pretrain": PretrainExperimentConfig, "episodic": ExperimentConfig}
    recipe = recipe_files.read_recipe(path)
    monkeypatch.undo()
    try:
        return [classes[entry.kind](**entry.options) for entry in recipe.entries]
    except ConfigError:  # another option needs the one that is missing
        return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_a_recipe_shows_only_what_makes_it_itself(path, monkeypatch):
    """Each option of a training's or a frozen backbone's file changes what it runs; the method may be the default."""
    said = recipe_files.read_options(path)
    whole = resolved(path, said, monkeypatch)
    assert whole or said.get("kind") == "base"
    if said.get("kind") != "base":
        for option in said.keys() - {*recipe_files.OWN, "method", "run_dir"}:
            assert resolved(path, without(said, option), monkeypatch) != whole, option
    assert len(FILES) <= 110


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_its_head_says_what_to_expect(path):
    text = path.read_text()
    if recipe_files.read_recipe(path).kind != "base":
        for fact in ("# Command:  ", "# Time:     ", "# Expected: ", "# Source:   "):
            assert fact in text, fact
        assert path.relative_to(ROOT).as_posix() in text.splitlines()[0]
