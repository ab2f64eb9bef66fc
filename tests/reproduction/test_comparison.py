"""Two runs on the same episodes: tests against scipy and by hand, planted differences, refusals, files."""

import csv
import itertools
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet, Method, Records, cli, evaluate
from fewshot.config import CompareConfig, ExperimentConfig, as_dict
from fewshot.errors import ConfigError, DataError, EpisodeError
from fewshot.experiments.build import build_method
from fewshot.reproduction.comparison import (
    adjust_by_holm,
    compare,
    compare_runs,
    compute_sign_test,
    format_summary,
    measure_classes,
    write,
)
from fewshot.reproduction.comparison.figure import draw, number_marks
from fewshot.reproduction.comparison.measure import check_same_rows, measure_class_accuracy, name_distinctly
from fewshot.reproduction.comparison.paired import compute_unpaired_half_width
from fewshot.runtime.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[2]
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")
SPEC = EpisodeSpec(3, 1, 4)


def pixels(n_classes: int = 6, n_images: int = 20, wrong: int = 0, names: tuple[str, ...] = NAMES) -> ImageSet:
    """Images whose only pixel is 40 times their class; the first `wrong` of each class show the next class."""
    labels = np.repeat(np.arange(n_classes), n_images)
    shown = np.where(np.arange(len(labels)) % n_images < wrong, (labels + 1) % n_classes, labels)
    return ImageSet(np.uint8(shown * 40).reshape(-1, 1, 1, 1), labels, names[:n_classes], name="pixels", split="test")


class Nearest(Method):
    """The class whose support shows the nearest pixel; queries that show a pixel of `blind_to` get the next label."""

    def __init__(self, blind_to: tuple[int, ...] = ()) -> None:
        super().__init__(None)
        self.blind_to = blind_to

    def encode(self, images):
        return images.flatten(-3).float()

    def head(self, support, support_labels, query, n_way):
        member = torch.nn.functional.one_hot(support_labels + 1, n_way + 1)[..., 1:].float()
        means = (member.transpose(1, 2) @ support) / member.sum(1)[..., None]
        logits = -(query - means.transpose(1, 2)).abs()  # (B, n_query, n_way)
        logits = logits.nan_to_num(-torch.inf)
        blind = torch.isin(query, torch.tensor([40.0 * c for c in self.blind_to]))
        return torch.where(blind, logits.roll(1, -1), logits)


def both(a: Method, b: Method, imageset: ImageSet | None = None, spec: EpisodeSpec = SPEC, n: int = 200):
    imageset = imageset or pixels()
    measured = [measure_classes(method, imageset, spec, n) for method in (a, b)]
    return compare(*measured, imageset.class_names, ("first", "second"))


def test_sign_test_by_hand():
    # 8 of 9 decided for A: 2 * (C(9,0) + C(9,1)) / 2**9
    assert compute_sign_test([0.1] * 8 + [-0.5] + [0] * 3) == (8, 1, 3, 20 / 512)
    assert compute_sign_test([0, 0]) == (0, 0, 2, 1.0)
    assert compute_sign_test([1, -1]) == (1, 1, 0, 1.0)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (5, 0), (7, 7), (12, 13), (386, 250), (885, 42), (0, 1500)])
def test_sign_test_against_scipy(a, b):
    expected = stats.binomtest(a, a + b, 0.5).pvalue
    assert compute_sign_test([1] * a + [0] * 11 + [-1] * b).p_value == pytest.approx(expected, rel=1e-9)
    assert compute_sign_test([-1] * a + [1] * b).p_value == compute_sign_test([1] * a + [-1] * b).p_value


def test_holm_by_hand():
    # sorted: .005 * 4, .01 * 3, .03 * 2, .04 * 1, none below the one before
    assert adjust_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_by_holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert adjust_by_holm([0.7, 0.7]) == pytest.approx([1, 1])
    assert adjust_by_holm([]).shape == (0,)


def test_holm_keeps_false_alarms_rare():
    rng = np.random.default_rng(0)
    alarms = [adjust_by_holm(rng.random(50)).min() <= 0.05 for _ in range(2000)]
    assert 0.035 < np.mean(alarms) < 0.065  # 0.05 ± 3 standard deviations; without adjustment 0.92


def test_unpaired_interval_against_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.beta(8, 2, 60), rng.beta(2, 2, 60)
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert compute_unpaired_half_width(a, b) == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
    assert compute_unpaired_half_width(np.ones(5), np.ones(5)) == 0


def test_class_accuracy_by_hand():
    labels = torch.tensor([[0, 0, 1, 1, 1, -1], [2, 2, 2, 2, 0, 0]])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 0], [2, 2, 0, 2, 0, 0]])
    logits = torch.nn.functional.one_hot(predicted, 3).float()
    expected = np.array([[1 / 2, 2 / 3, np.nan], [1, np.nan, 3 / 4]])
    np.testing.assert_allclose(measure_class_accuracy(logits, labels).numpy(), expected)


@pytest.mark.parametrize("spec", [SPEC, EpisodeSpec((2, 4), (1, 2), (2, 5))])
def test_classes_are_counted_as_by_hand(spec):
    imageset, method = pixels(wrong=6), Nearest(blind_to=(4,))
    found = measure_classes(method, imageset, spec, 60, seed=2)
    sampler, shown = EpisodeSampler(imageset, spec, 2), imageset.images.flatten().float()
    for i in range(60):
        episode = sampler.batch(i, 1)
        support, labels = shown[episode.support[0]], episode.support_labels[0]
        means = [support[labels == c].mean() if (labels == c).any() else np.inf for c in range(episode.n_way)]
        right: dict[int, list[bool]] = {}
        for row, label in zip(episode.query[0].tolist(), episode.query_labels[0].tolist(), strict=True):
            if label >= 0:
                distances = np.array([abs(shown[row] - mean) for mean in means])
                answer = np.argmin(np.roll(distances, 1) if shown[row] == 160 else distances)
                right.setdefault(int(episode.classes[0, label]), []).append(answer == label)
        by_class = dict(zip(found.classes[i].tolist(), found.class_accuracy[i].tolist(), strict=True))
        assert {c: a for c, a in by_class.items() if c >= 0} == pytest.approx({c: np.mean(r) for c, r in right.items()})
        every = [r for rs in right.values() for r in rs]
        assert found.records.accuracy[i] == pytest.approx(np.mean(every), abs=1e-6)


def test_watching_leaves_the_evaluation_as_it_is(small_protonet, toy_sets):
    plain = evaluate(small_protonet(), toy_sets[2], SPEC, 30)
    watched = measure_classes(small_protonet(), toy_sets[2], SPEC, 30).records
    assert [e._replace(seconds=0) for e in watched.episodes] == [e._replace(seconds=0) for e in plain.episodes]


def test_identical_runs_do_not_differ():
    found = both(Nearest(), Nearest(), pixels(wrong=6))
    assert found.difference == (0, 0)
    assert found.sign == (0, 0, 200, 1)
    assert found.correlation == pytest.approx(1)
    assert found.unpaired_half_width_95 > 0
    assert [c.holm_p for c in found.classes] == [1] * 6
    assert "+0.00 ± 0.00" in format_summary(found)
    assert "better by most" not in format_summary(found)


def test_swapping_negates():
    one, other = Nearest(blind_to=(2,)), Nearest(blind_to=(1, 4))
    there, back = both(one, other, pixels(wrong=5)), both(other, one, pixels(wrong=5))
    assert there.difference.mean == -back.difference.mean != 0
    assert there.difference.half_width_95 == back.difference.half_width_95
    assert there.sign == back.sign._replace(a_better=back.sign.b_better, b_better=back.sign.a_better)
    negated = {c.name: (-c.difference.mean, c.difference.half_width_95, c.holm_p) for c in back.classes}
    assert {c.name: (c.difference.mean, c.difference.half_width_95, c.holm_p) for c in there.classes} == negated


def test_a_planted_difference_is_found_and_named():
    found = both(Nearest(), Nearest(blind_to=(3,)))
    assert found.difference.mean > 0
    worst = found.classes[0]
    assert (worst.name, worst.class_id, worst.accuracy_a.mean, worst.accuracy_b.mean) == ("dog", 3, 1, 0)
    assert worst.n_episodes == worst.sign.a_better == int((found.a.classes == 3).sum())
    assert worst.holm_p == pytest.approx(6 * worst.sign.p_value, abs=0)  # the other five p-values are 1
    assert [c.name for c in found.classes if c.significant] == ["dog"]
    assert all(c.difference == (0, 0) for c in found.classes[1:])
    text = format_summary(found)
    assert "A is better on 1, B on 0" in text
    assert "dog" in text
    assert "B is better by most" not in text


def test_too_few_episodes_to_tell_classes_apart_is_said_so():
    found = both(Nearest(), Nearest(blind_to=(3,)), n=4)  # 12 places for 6 classes: none occurs in 8 episodes
    assert not any(c.significant for c in found.classes)
    # 6 tests at 5%: 7 unanimous episodes give 6 * 2 / 2**7 = 0.09, 8 give 0.047
    assert f"none of {len(found.classes)} can stand out with so few: it takes 8 episodes" in format_summary(found)
    assert len(found.classes) + len(found.unseen) == 6


def test_absent_classes_of_smaller_episodes_do_not_count():
    found = both(Nearest(), Nearest(blind_to=(3,)), spec=EpisodeSpec((2, 4), 1, 4))
    assert sorted(c.name for c in found.classes) == sorted(NAMES)
    assert sum(c.n_episodes for c in found.classes) == sum(e.n_way for e in found.a.records.episodes)


def test_one_episode_of_a_class_has_no_interval(tmp_path):
    found = both(Nearest(), Nearest(blind_to=(3,)), n=2)
    once = [c for c in found.classes if c.n_episodes == 1]
    assert once
    assert all(np.isinf(c.difference.half_width_95) for c in once)
    write(found, tmp_path)
    stored = json.loads((tmp_path / "comparison.json").read_text())
    rows = {row["class"]: row for row in stored["classes"]}
    assert all(rows[c.name]["difference_half_width_95"] is None for c in once)
    assert stored["unseen_classes"] == found.unseen != []


def test_other_episodes_are_refused():
    a, b = (measure_classes(Nearest(), pixels(), SPEC, 20, seed) for seed in (0, 1))
    with pytest.raises(DataError, match=r"A and B were measured on different episodes: \{'seed': \(0, 1\)\}"):
        compare(a, b, NAMES)
    unsaid = replace(b, records=b.records.add_facts(seed=0))  # as if the header did not know
    with pytest.raises(DataError, match="episodes of different classes"):
        compare(a, unsaid, NAMES)


def with_groups(groups: np.ndarray) -> ImageSet:
    imageset = pixels(wrong=1)
    return ImageSet(imageset.images, imageset.labels, NAMES, groups, name="pixels", split="test")


def test_other_images_are_refused():
    ours, labels = pixels(), pixels().labels
    shuffled = ImageSet(ours.images, labels[::-1].copy(), NAMES, name="pixels", split="test")
    named = ImageSet(pixels(wrong=1).images, labels, NAMES, name="others", split="test")
    for other, words in (
        (named, "others/test.*--dataset"),
        (pixels(5), "6 classes of pixels/test, the other 5; only one has fox"),
        (pixels(names=NAMES[::-1]), "their order differs"),
        (pixels(n_images=19), "120 images of pixels/test, the other 114; of ant, for instance, 20 and 19"),
        (shuffled, "come in different orders"),
    ):
        with pytest.raises(DataError, match=f"run1 and run2 cannot be measured on the same episodes: .*{words}"):
            check_same_rows(ours, other, ("run1", "run2"))


def test_other_pixels_are_allowed_and_other_groups_only_where_they_do_not_matter():
    check_same_rows(pixels(), pixels(wrong=3), ("a", "b"))
    one, other = with_groups(np.arange(120) % 4), with_groups(np.arange(120) % 5)
    check_same_rows(one, other, ("a", "b"))
    with pytest.raises(DataError, match="their groups differ"):
        check_same_rows(one, other, ("a", "b"), groups=True)


def test_transductive_methods_are_said_to_be():
    class Looking(Nearest):
        transductive = True

    looking = Looking(blind_to=(2,))
    assert "Note: B is transductive" in format_summary(both(Nearest(), looking))
    assert "Note: A is transductive" in format_summary(both(looking, Nearest()))
    assert "Note: both are transductive" in format_summary(both(looking, looking))
    assert "transductive" not in format_summary(both(Nearest(), Nearest(blind_to=(1,))))


def test_files_hold_what_was_measured(tmp_path):
    found = both(Nearest(), Nearest(blind_to=(3,)), pixels(wrong=2))
    paths = write(found, tmp_path / "new" / "folder")
    names = ["a.jsonl", "b.jsonl", "comparison.json", "per_class.csv", "comparison.png", "comparison.svg"]
    assert [path.name for path in paths] == names
    folder = tmp_path / "new" / "folder"
    assert Records.read(folder / "a.jsonl") == found.a.records
    stored = json.loads((folder / "comparison.json").read_text())
    assert stored["difference"] == {"mean": found.difference.mean, "half_width_95": found.difference.half_width_95}
    assert stored["sign_test"]["ties"] == found.sign.ties
    assert stored["b"]["header"]["data_fingerprint"] == pixels(wrong=2).fingerprint
    assert {"commit", "command"} <= stored.keys()
    with (folder / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [c.name for c in found.classes]
    assert rows[0]["class"] == "dog"
    assert rows[0]["significant"] == "True"
    assert float(rows[0]["difference"]) == found.classes[0].difference.mean
    picture = Image.open(folder / "comparison.png")
    assert picture.size == (2700, 1240)
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 100
    words = " ".join(ElementTree.parse(folder / "comparison.svg").getroot().itertext())
    assert "A better on 1 class " in " ".join(words.split())
    assert "dog" in words
    counts = [c.n_episodes for c in found.classes]
    assert f"each class in {min(counts)} to {max(counts)} episodes" in words
    before = [path.read_bytes() for path in paths[4:]]
    assert [path.read_bytes() for path in write(found, tmp_path / "again")[4:]] == before


def drawn(found, folder, monkeypatch):
    """The figure of a comparison, laid out."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (path.touch(), figures.append(self)))
    draw(found, folder)
    FigureCanvasAgg(figures[0]).draw()
    return figures[0], figures[0].canvas.get_renderer()


def test_titles_and_names_stay_within_the_figure(tmp_path, monkeypatch):
    found = both(Nearest(), Nearest(blind_to=(3,)))
    figure, renderer = drawn(replace(found, names=("a" * 300, "b" * 300)), tmp_path, monkeypatch)
    assert len(figure.texts) == 6
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_numbers_of_classes_keep_apart_from_each_other_and_from_marks(tmp_path, monkeypatch):
    axes = Figure(figsize=(5, 5)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    near = [(50, 50), (51.5, 50), (50, 51.5), (54, 54), (80, 80)]
    axes.scatter(*zip(*near, strict=True))
    number_marks(axes, [(str(n), *at, "black") for n, at in enumerate(near)])
    FigureCanvasAgg(axes.figure).draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    for x, y in axes.transData.transform(near):
        assert not any(box.contains(x, y) for box in boxes)


def test_names_tell_two_folders_apart():
    assert name_distinctly("runs/proto", "runs/maml") == ("proto", "maml")
    assert name_distinctly("one/proto", "two/proto") == ("one/proto", "two/proto")
    assert name_distinctly("one/proto", "one/proto/") == ("proto", "proto")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Run folders of untrained networks on a folder of pictures."""
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for c in range(6):
        (root / "pictures" / f"class{c}").mkdir(parents=True)
        for i in range(6):
            noisy = np.clip(40 * c + rng.normal(0, 30, (20, 20)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / "pictures" / f"class{c}" / f"{i}.png")
    shared = dict(dataset="folder", data_root="moved", backbone_options={"n_filters": 4}, max_steps=0)
    configs = {
        "proto": ExperimentConfig(**shared, dataset_options={"channels": 1, "size_px": 16}),
        "larger": ExperimentConfig(**shared, dataset_options={"channels": 1, "size_px": 20}, seed=1),
        "anil": ExperimentConfig(
            **shared, dataset_options={"channels": 1, "size_px": 16}, method="anil", method_options={"n_way": 3}
        ),
    }
    for name, first in (("early", 0), ("late", 1)):
        (root / f"{name}.json").write_text(json.dumps({"test": [f"class{c}" for c in range(first, first + 4)]}))
        split = {"channels": 1, "size_px": 16, "split_file": str(root / f"{name}.json")}
        configs[name] = ExperimentConfig(**shared, dataset_options=split)
    for name, config in configs.items():
        shape = (1, 20, 20) if name == "larger" else (1, 16, 16)
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(as_dict(config)))
        state = {"image_shape": shape, "method": build_method(config, shape).state_dict()}
        save_checkpoint(folder / "last.safetensors", state)
    return {name: root / name for name in (*configs, "pictures")}


def options(runs: dict[str, Path], a: str = "proto", b: str = "larger") -> CompareConfig:
    return CompareConfig(
        str(runs[a]), str(runs[b]), data_root=str(runs["pictures"]), split="all", n_way=3, n_query=3, n_episodes=40
    )


def test_runs_at_other_image_sizes_meet_on_the_same_episodes(runs):
    found = compare_runs(options(runs))
    assert np.array_equal(found.a.classes, found.b.classes)
    assert found.a.records.header.weights != found.b.records.header.weights
    assert found.a.records.header.selected_on == "nothing"
    assert "the images are the same, prepared otherwise" in format_summary(found)
    assert "'size_px': 20" in format_summary(found)
    swapped = compare_runs(options(runs, "larger", "proto"))
    assert swapped.difference.mean == -found.difference.mean


def test_a_fixed_way_is_said_and_fits_where_it_fits(runs):
    found = compare_runs(options(runs, "anil", "proto"))
    assert found.a.records.header.method == "ANIL"
    with pytest.raises(EpisodeError, match="4 classes does not fit anil's classifier"):
        compare_runs(replace(options(runs, "anil", "proto"), n_way=4))


def test_impossible_comparisons_are_refused(runs, tmp_path):
    with pytest.raises(DataError, match="4 classes of pictures/test, the other 4; only one has class0, class4"):
        compare_runs(replace(options(runs, "early", "late"), split="test"))
    with pytest.raises(ConfigError, match="is no run folder"):
        compare_runs(replace(options(runs), run_b=str(tmp_path)))
    with pytest.raises(ConfigError, match="at least 2 episodes, got n_episodes=1"):
        CompareConfig("a", "b", n_episodes=1)


def test_the_script_prints_and_writes(runs):
    command = [sys.executable, str(ROOT / "scripts" / "compare.py"), str(runs["proto"]), str(runs["larger"])]
    chosen = ["--data_root", str(runs["pictures"]), "--split", "all", "--n_way", "3", "--n_query", "3"]
    result = subprocess.run(
        [*command, *chosen, "--n_episodes", "40"], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    folder = runs["proto"] / "compare" / "proto-vs-larger" / "pictures-all-3-way-1-shot-3-queries-a-class-seed0"
    assert json.loads((folder / "comparison.json").read_text())["a"]["name"] == "proto"
    assert "A − B" in result.stdout
    assert f"{folder}/comparison.png" in result.stdout


def test_options_are_explained_and_runs_are_given_by_place(capsys):
    config = cli.parse(CompareConfig, "", ["one", "two", "--n_way", "[2, 4]"], positional=["run_a", "run_b"])
    assert (config.run_a, config.run_b, config.n_way, config.n_shot) == ("one", "two", (2, 4), 1)
    with pytest.raises(SystemExit):
        cli.parse(CompareConfig, "", ["one"], positional=["run_a", "run_b"])
    assert "run_b" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.parse(CompareConfig, "", ["--help"], positional=["run_a", "run_b"])
    text = capsys.readouterr().out
    assert "RUN_A RUN_B [--config FILE]" in text
    assert all(name in text for name in CompareConfig.__dataclass_fields__)
