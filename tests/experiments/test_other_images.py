"""Recipes for images that are not at hand take a few steps on made-up pictures in the published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot import Records, cli
from fewshot.commands import pretrain, train
from fewshot.config import ExperimentConfig, PretrainExperimentConfig
from fewshot.datasets.splits import load_published_split
from fewshot.errors import ConfigError, FewShotError
from fewshot.experiments.cells import list_cells, list_test_cells
from fewshot.runtime.checkpoint import load_checkpoint

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
SIDE_PX, IMAGES = 20, 4
FEW = {"--max_steps": 2, "--val_n_shot": 1, "--val_n_query": 1, "--val_episodes": 2, "--test_n_shot": [1],
       "--test_n_query": 1, "--test_episodes": 3, "--test_floor": False}  # fmt: skip
EPISODES = {"--train_n_way": 5, "--train_n_shot": 1, "--train_n_query": 1, "--episodes_per_step": 1}


def write_pictures(folder: Path, seed: int, suffix: str) -> None:
    """A few pictures of noise around a colour of the class."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    colour = rng.integers(60, 196, 3)
    for number in range(IMAGES):
        pixels = colour + rng.integers(-40, 40, (SIDE_PX, SIDE_PX, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{folder.name}_{number}.{suffix}")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """CUB as its archive unpacks, mini-ImageNet as folders of classes, tieredImageNet as folders of splits."""
    root = tmp_path_factory.mktemp("data")
    for number in range(200):
        write_pictures(root / "cub" / "CUB_200_2011" / "images" / f"{number + 1:03d}.Bird_{number}", number, "jpg")
    folders = [
        root / name / split / wnid
        for name in ("tiered_imagenet", "mini_imagenet")
        for split, wnids in load_published_split(name).items()
        for wnid in wnids
    ]
    for number, folder in enumerate(folders):
        write_pictures(folder, 1000 + number, "png")
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path_factory.getbasetemp() / "cache of other images"))


def run(recipe: str, run_dir: Path, root: Path, row: str | None = None, **options: object) -> dict[str, list[Records]]:
    """A recipe, or one of its rows, on small pictures; the records that it leaves behind, by the name of the file."""
    path = RECIPES / f"{recipe}.yaml"
    stage_1 = (row or path.stem).startswith("pretrain")
    given = FEW | {"--run_dir": run_dir, "--data_root": root} | ({"--batch_size": 8} if stage_1 else EPISODES)
    given |= {f"--{name}": value for name, value in options.items()}
    if row and not stage_1 and "pretrained_run" in options and "max_steps" not in options:
        given["--max_steps"] = 0
    words = [word for name, value in given.items() for word in (name, as_text(value))]
    config = cli.parse(
        PretrainExperimentConfig if stage_1 else ExperimentConfig,
        "",
        ["--config", str(path), *(["--row", row] if row else []), *words],
    )
    (pretrain if stage_1 else train).run(config)
    return {path.stem: Records.read(path) for path in sorted((run_dir / "records").iterdir())}


def as_text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | list | dict) else str(value)


SMALL = {"dataset_options.size_px": SIDE_PX, "backbone_options.n_filters": 4}


@pytest.mark.parametrize("group", ["cub", "tiered_imagenet"])
def test_a_classifier_then_a_head_on_its_weights(group, root, tmp_path):
    first = run(f"{group}/pretrain", tmp_path / "one", root, **SMALL)
    assert [records.header.dataset for records in first.values()] == [group]
    start = {"pretrained_run": tmp_path / "one", **SMALL}
    (head,) = run(f"{group}/pretrain", tmp_path / "head", root, "baseline", **start).values()
    assert (head.header.selected_on, head.header.n_episodes) == ("val", 3)
    if group == "tiered_imagenet":
        (tuned,) = run(f"{group}/meta-baseline", tmp_path / "two", root, **start).values()
        assert tuned.header.weights != head.header.weights


def test_a_deep_network_of_a_closer_look_takes_a_step(root, tmp_path):
    options = {"dataset_options.size_px": 32, "max_steps": 1}
    (records,) = run("cub/protonet", tmp_path / "deep", root, "protonet_resnet10", **options).values()
    assert records.header.dataset == "cub"
    weights = load_checkpoint(tmp_path / "deep" / "last.safetensors")["method"]
    assert weights["backbone.body.conv1.weight"].shape == (64, 3, 7, 7)


def test_weights_of_mini_imagenet_answer_birds(root, tmp_path):
    """The whole method is taken over, its temperature and head too; ways and shots vary from episode to episode."""
    options = {"dataset_options.size_px": SIDE_PX, "backbone_options.n_filters": 4}
    run("mini_imagenet/r2d2", tmp_path / "mini", root, **options)
    elsewhere = {"pretrained_run": tmp_path / "mini", "test_dataset_options": {"size_px": SIDE_PX}, **options}
    elsewhere["test_varied"] = {"n_way": [5, 20], "n_shot": [1, 2], "n_query": 2}
    found = run("cross_domain/trained", tmp_path / "birds", root, "r2d2_mini_cub", **elsewhere)
    held = [load_checkpoint(tmp_path / name / "best.safetensors")["method"] for name in ("mini", "birds")]
    assert held[0].keys() == held[1].keys()
    assert all(torch.equal(held[0][name], held[1][name]) for name in held[0])
    one, varied = found["trained-5-way-1-shot"], found["trained-5–20-way-1–2-shot"]
    for records in (one, varied):
        assert (records.header.dataset, records.header.split, records.header.selected_on) == ("cub", "test", "val")
    assert varied.header.spec == {"n_way": [5, 20], "n_shot": [1, 2], "n_query": 2, "disjoint_groups": False}
    ways = {episode.n_way for episode in varied.episodes}
    assert len(ways) > 1
    assert ways <= set(range(5, 21))
    assert all(episode.n_way <= episode.n_support <= 2 * episode.n_way for episode in varied.episodes)
    with pytest.raises(ConfigError, match="is of r2d2, this run of protonet"):
        run("cross_domain/trained", tmp_path / "no", root, "protonet_mini_cub", **elsewhere)


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ({"n_ways": [5, 20]}, "Did you mean 'n_way'"),
        ({"n_way": [5, 20], "n_shot": 1}, "n_query is missing"),
        ({"n_way": [5, 20, 30], "n_shot": 1, "n_query": 1}, "n_way is a number or a range"),
        ({"n_way": "5", "n_shot": 1, "n_query": 1}, "n_way is a number or a range"),
    ],
)
def test_varying_episodes_that_are_not_told_right_are_refused(varied, message):
    with pytest.raises(FewShotError, match=message):
        list_test_cells(ExperimentConfig(test_varied=varied))


def test_a_variant_may_keep_groups_apart():
    config = ExperimentConfig(test_variants={"apart": {"disjoint_groups": True}, "odd": {"disjoint_groups": "yes"}})
    assert [cell.disjoint_groups for cell in list_cells(config, "trained")] == [False, False]
    assert [(cell.disjoint_groups, cell.n_query) for cell in list_cells(config, "apart")] == [(True, 15), (True, 15)]
    with pytest.raises(ConfigError, match="odd: disjoint_groups is true or false, got 'yes'"):
        list_cells(config, "odd")
