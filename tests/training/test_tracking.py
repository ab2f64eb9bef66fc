"""TensorBoard: curves, options, tables, pictures and features in the event file are complete and correct."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet, TrainConfig, evaluate, train
from fewshot.config import ExperimentConfig
from fewshot.evaluation.records import Records
from fewshot.evaluation.statistics import Estimate
from fewshot.experiments.run_names import LONGEST_DIFFERENCES, name_differences
from fewshot.runtime.checkpoint import load_checkpoint
from fewshot.training.tracking import Answers, AnswersWatch, Tracker, track_tests
from fewshot.training.tracking.hyperparameters import list_hyperparameters
from fewshot.training.tracking.pictures import (
    EDGE,
    NAME_PX,
    RIGHT,
    WRONG,
    _load_font,
    draw_episode,
    draw_pairs,
    fit_text,
    wrap_text,
)
from fewshot.training.tracking.projector import (
    THUMBNAIL_PX,
    choose_rows,
    project_on_principal_components,
    write_embedding,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's reader
CONFIG = TrainConfig(
    max_steps=12, train_n_way=4, train_n_query=3, val_n_query=3, val_episodes=20, val_every_steps=4,
    checkpoint_every_steps=6, log_every_steps=2, precision="float32",
)  # fmt: skip


def read_events(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run_dir), size_guidance={"images": 0})
    return accumulator.Reload()


def read_text(events, tag: str) -> str:
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def run(toy_sets, small_protonet, tmp_path_factory):
    """A finished run that was resumed once: its folder, the result of `train`, its events."""
    folder = tmp_path_factory.mktemp("run")
    config = replace(CONFIG, run_dir=str(folder), profile_step=3)
    result = train(small_protonet(), *toy_sets[:2], config)
    train(small_protonet(), *toy_sets[:2], replace(config, resume=True))
    return folder, result, read_events(folder)


# ---------------------------------------------------------------- a run


def test_what_a_researcher_looks_for_is_there(run):
    _, result, events = run
    tags = events.Tags()
    assert {
        "train/loss", "train/accuracy", "train/gradient_norm", "train/learning_rate", "train/episodes_per_second",
        "val/accuracy", "val/accuracy_low", "val/accuracy_high", "val/loss", "val/calibration_error",
    } <= set(tags["scalars"])  # fmt: skip
    assert [e.step for e in events.Scalars("val/accuracy")] == [4, 8, 12]
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 4, 6, 8, 10, 12]
    for low, mean, high in zip(*(events.Scalars(f"val/accuracy{s}") for s in ("_low", "", "_high")), strict=True):
        assert low.value < mean.value < high.value
    assert events.Scalars("train/learning_rate")[0].value < 1e-3
    pictures = {f"val_episodes/{b}" for b in range(2)} | {f"val_classes/{x}" for x in ("accuracy", "confusion")}
    pictures |= {f"val_answers/{x}" for x in ("calibration", "most_wrong", "accuracy_of_episodes")}
    assert set(tags["images"]) == pictures | {"val_classes/hardest_pairs"}
    assert "| max_steps | `12` |" in read_text(events, "config")
    assert "| processes | `1` |" in read_text(events, "run")
    assert events.Scalars("result/best_val_accuracy")[-1].value == pytest.approx(result.validation.mean)
    assert events.Scalars("result/best_val_accuracy")[-1].step == result.best_step
    assert events.Scalars("result/minutes")[0].value == pytest.approx(result.seconds / 60)
    histogram = events.Histograms("val/accuracy_of_episodes")[-1].histogram_value
    assert histogram.num == 20
    assert histogram.sum / 20 == pytest.approx(events.Scalars("val/accuracy")[-1].value, abs=1e-6)


def test_options_are_in_the_hparams_tab(run):
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status

    folder, _, events = run
    start, end = (
        events.SummaryMetadata(tag).plugin_data.content
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    )
    start, end = metadata.parse_session_start_info_plugin_data(start), metadata.parse_session_end_info_plugin_data(end)
    assert start.group_name == f"{folder.name} ({folder.parent})"
    assert start.hparams["lr"].number_value == 1e-3
    assert start.hparams["compile"].HasField("bool_value")
    assert start.hparams["optimizer"].string_value == "adam"
    assert set(start.hparams) == set(list_hyperparameters(CONFIG))
    assert set(list_hyperparameters(CONFIG)) == set(vars(CONFIG)) - {"run_dir", "resume", "augmentation"}
    assert end.status == Status.Value("STATUS_SUCCESS")


def test_options_of_options_have_names_of_their_own():
    config = ExperimentConfig(method_options={"inner_steps": 5}, test_n_shot=[1, 5], test_also={"b": {"size_px": 84}})
    found = list_hyperparameters(config)
    assert found["method_options.inner_steps"] == 5
    assert found["test_also.b.size_px"] == 84
    assert found["test_n_shot"] == "1, 5"
    assert found["pretrained_run"] == "none"
    assert "backbone_options" not in found


def test_training_is_the_same_bit_for_bit_without_tracking(run, toy_sets, small_protonet):
    folder, result, _ = run
    method = small_protonet()
    untracked = train(method, *toy_sets[:2], CONFIG)
    kept = load_checkpoint(folder / "best.safetensors")["method"]
    assert all(torch.equal(kept[name], tensor) for name, tensor in method.state_dict().items())
    assert untracked.best_step == result.best_step
    strip = [[e._replace(seconds=0) for e in r.validation.episodes] for r in (untracked, result)]
    assert strip[0] == strip[1]


def test_a_point_is_the_mean_over_the_steps_since_the_last(run, toy_sets, small_protonet, tmp_path):
    train(small_protonet(), *toy_sets[:2], replace(CONFIG, run_dir=str(tmp_path), log_every_steps=1))
    every = [e.value for e in read_events(tmp_path).Scalars("train/loss")]
    points = [e.value for e in run[2].Scalars("train/loss")][:7]
    assert points == pytest.approx([every[0], every[1], *np.reshape(every[2:], (5, 2)).mean(1)], rel=1e-5)


def test_the_step_that_was_asked_for_is_profiled(run):
    folder, _, events = run
    trace = json.loads((folder / "profile-step3.json").read_text())
    operations = Counter(event.get("name") for event in trace["traceEvents"])
    assert operations["aten::convolution_backward"] == 4  # a block of conv4 each
    assert events.Tensors("profile/text_summary")[0].step == 3
    assert "| aten::convolution_backward | 4 |" in read_text(events, "profile")


# ---------------------------------------------------------------- what was answered


def answers_of(classes, answered, p_class=None, p_answer=None, n_classes=3, episodes=None) -> Answers:
    """The answers to queries of episodes that each hold all classes."""
    classes, answered = np.array(classes), np.array(answered)
    asked = np.repeat(np.bincount(classes, minlength=n_classes)[:, None], n_classes, 1)
    n = len(classes)
    return Answers(
        asked, np.zeros(n, int) if episodes is None else episodes, np.arange(n), classes, answered,
        np.zeros(n) if p_class is None else np.array(p_class), np.ones(n) if p_answer is None else np.array(p_answer),
    )  # fmt: skip


def test_classes_and_pairs_by_hand():
    found = answers_of([0, 0, 0, 0, 1, 1, 1, 2], [0, 1, 1, 2, 1, 0, 1, 2], n_classes=4)
    np.testing.assert_array_equal(found.confusion[:3, :3], [[1, 2, 1], [1, 2, 0], [0, 0, 1]])
    np.testing.assert_allclose(found.class_accuracy, [1 / 4, 2 / 3, 1, np.nan])
    assert found.hardest_pairs(5) == [(0, 1, (2, 1), (4, 3)), (0, 2, (1, 0), (4, 1))]
    assert found.hardest_pairs(1) == [(0, 1, (2, 1), (4, 3))]


def test_calibration_by_hand():
    found = answers_of([0, 0, 0, 0, 0], [0, 1, 0, 0, 0], p_answer=[0.52, 0.58, 0.9, 1.0, 0.96])
    (low, high) = found.calibration()
    assert low == pytest.approx((0.55, 0.5, 2))
    assert high == pytest.approx((0.95333333, 1, 3))
    assert found.calibration_error == pytest.approx((2 * 0.05 + 3 * (1 - 0.95333333)) / 5)


def test_the_most_wrong_come_first():
    found = answers_of([0, 0, 1, 2], [1, 0, 0, 1], p_class=[0.3, 0.9, 0.1, 0.2])
    assert found.most_wrong(2).tolist() == [2, 3]
    assert found.most_wrong(9).tolist() == [2, 3, 0]


@pytest.mark.parametrize("spec", [EpisodeSpec(4, 1, 2), EpisodeSpec((2, 5), (1, 2), (1, 3))], ids=["even", "ragged"])
def test_answers_are_those_of_the_records(toy_sets, small_protonet, spec):
    method, val_set = small_protonet(), toy_sets[1]
    watch = AnswersWatch(EpisodeSampler(val_set, spec, seed=3), val_set.n_classes)
    records = evaluate(method, val_set, spec, 25, seed=3, watch=watch)
    found = watch.gather()
    right = found.classes == found.answers
    by_episode = [right[found.episodes == i].mean() for i in range(25)]
    np.testing.assert_allclose(by_episode, records.accuracy, rtol=1e-6)
    loss = [-np.log(found.p_class[found.episodes == i]).mean() for i in range(25)]
    np.testing.assert_allclose(loss, [e.loss for e in records.episodes], atol=2e-5)
    np.testing.assert_array_equal(val_set.labels[found.rows], found.classes)
    np.testing.assert_array_equal(found.p_class[right], found.p_answer[right])
    oracle = confusion_matrix(found.classes, found.answers, labels=range(val_set.n_classes))
    np.testing.assert_array_equal(found.confusion, oracle)
    asked = np.zeros_like(oracle)
    for i in range(25):  # by the support, which holds each class of an episode
        episode = watch.sampler.batch(i, 1)
        present = {int(val_set.labels[row]) for row in episode.support[episode.support_labels >= 0]}
        for own in found.classes[found.episodes == i]:
            for other in present:
                asked[own, other] += 1
    np.testing.assert_array_equal(found.asked, asked)


# ---------------------------------------------------------------- pictures


@pytest.fixture
def two_classes():
    images = np.repeat(np.uint8([0, 255]), 4).reshape(8, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)
    return ImageSet(images, np.repeat([0, 1], 4), ["dark", "bright"])


def test_gallery_frames_right_and_wrong_answers_the_doubtful_first(two_classes):
    sampler = EpisodeSampler(two_classes, EpisodeSpec(2, 1, 2))
    episode = sampler.batch(0, 1).fill(two_classes)
    logits = torch.nn.functional.one_hot(episode.query_labels, 2).float()
    logits[0, 1] = logits[0, 1].flip(0)  # the second query of the first class is taken for the other class
    picture = draw_episode(episode, logits, 0, two_classes.class_names)
    width, height, left, top = 62, 78, NAME_PX + 62 + 14, 18
    frames = [
        [tuple(map(int, picture[top + row * height, left + column * width])) for column in range(2)] for row in range(2)
    ]
    assert frames == [[WRONG, RIGHT], [RIGHT, RIGHT]]
    assert tuple(map(int, picture[top, NAME_PX])) == EDGE
    first = int(episode.support[0, 0].max())  # the picture shows what the episode holds
    assert tuple(picture[top + 30, NAME_PX + 30]) == (first,) * 3
    below = picture[top + 61 : top + height, left : left + 60].reshape(-1, 3)
    assert (below == WRONG).all(1).any()  # the number of the answer
    beside = picture[top + 61 : top + height, left + 62 : left + 120]
    assert (beside == 255).all()


def test_pairs_show_the_mistaken_queries_first():
    shades = np.uint8([0, 40, 80, 120, 200, 210, 220, 230]).reshape(8, 1, 1, 1) * np.ones((1, 1, 4, 4), np.uint8)
    imageset = ImageSet(shades, np.repeat([0, 1], 4), ["dark", "bright"])
    found = replace(answers_of([0, 0, 1], [0, 1, 1], n_classes=2), rows=np.array([0, 2, 4]))
    picture = draw_pairs(found.hardest_pairs(1), found, imageset)
    left, right = ([picture[36:96, x + 62 * column :][:, :60] for column in range(4)] for x in (4, 6 * 62 + 24 + 4))
    assert [tuple(map(int, cell[0, 0])) for cell in left] == [WRONG, EDGE, EDGE, EDGE]
    assert [int(cell[30, 30, 0]) for cell in left] == [80, 0, 40, 120]  # row 2 was taken for bright
    assert [tuple(map(int, cell[0, 0])) for cell in right] == [EDGE] * 4  # bright was never taken for dark
    assert [int(cell[30, 30, 0]) for cell in right] == [200, 210, 220, 230]


def test_names_are_wrapped_at_spaces_and_slashes_and_the_rest_is_shortened():
    assert wrap_text("1  bus", 160) == ["1  bus"]
    assert wrap_text("3  Armenian/U+0561 ARMENIAN SMALL LETTER AYB", 160) == [
        "3  Armenian/U+0561", "ARMENIAN SMALL LETTER", "AYB",
    ]  # fmt: skip
    assert wrap_text("12  Mkhedruli_(Georgian)/character20/rot270", 160) == [
        "12  Mkhedruli_(Georgian)/", "character20/rot270",
    ]  # fmt: skip
    *lines, last = wrap_text("one two three four five six seven eight nine ten", 60)
    assert len(lines) == 3
    assert "one two three four five six seven eight nine ten".startswith(" ".join(lines))
    assert last.endswith("ten")
    assert "…" in last


def test_long_names_keep_both_ends():
    name = "Armenian/U+0561 ARMENIAN SMALL LETTER AYB"
    assert fit_text(name, 1000) == name
    for width in (60, 100, 200):
        short = fit_text(name, width)
        start, end = short.split("…")
        assert name.startswith(start)
        assert name.endswith(end)
        assert abs(len(start) - len(end)) <= 1
        assert _load_font().getlength(short) <= width < _load_font().getlength(f"{short}WW")


# ---------------------------------------------------------------- the projector


def read_projector(folder: Path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    return text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings


def test_features_with_names_and_thumbnails(toy_sets, tmp_path):
    val_set = toy_sets[1]
    rows = choose_rows(val_set)
    features = torch.randn(len(rows), 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(2):  # the second replaces the first
        write_embedding(tmp_path, "validation classes", features, rows, val_set)
    write_embedding(tmp_path, "test classes", features, rows, val_set)
    found = {embedding.tensor_name: embedding for embedding in read_projector(tmp_path)}
    assert len(read_projector(tmp_path)) == len(found) == 2
    embedding = found["validation classes"]
    numbers = np.loadtxt(tmp_path / embedding.tensor_path, delimiter="\t")
    distances = torch.cdist(features, features).numpy()
    np.testing.assert_allclose(torch.cdist(*[torch.tensor(numbers)] * 2).numpy(), distances, atol=1e-3)
    head, *lines = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert head == "class\timage"
    assert lines == [f"{val_set.class_names[val_set.labels[row]]}\t{row}" for row in rows.tolist()]
    with Image.open(tmp_path / embedding.sprite.image_path) as sprite:
        side = sprite.width // THUMBNAIL_PX
        for i in (0, side + 1, len(rows) - 1):  # the mean of a thumbnail is that of its image
            x, y = i % side * THUMBNAIL_PX, i // side * THUMBNAIL_PX
            shown = np.asarray(sprite.crop((x, y, x + THUMBNAIL_PX, y + THUMBNAIL_PX))).mean()
            assert shown == pytest.approx(float(val_set.gather(rows[i]).float().mean()), abs=2)


def test_components_are_at_most_64_and_keep_the_largest_variance():
    features = torch.randn(100, 90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = project_on_principal_components(features)
    assert kept.shape == (100, 64)
    variances = torch.linalg.eigvalsh(torch.cov(features.T)).flip(0)[:64]
    torch.testing.assert_close(kept.var(0), variances)


def test_at_most_thirty_classes_of_twenty_images():
    labels = np.repeat(np.arange(45), 25)
    many = ImageSet(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, [f"c{c}" for c in range(45)])
    shown = Counter(labels[choose_rows(many).numpy()].tolist())
    assert (len(shown), set(shown.values())) == (30, {20})
    assert max(shown) - min(shown) > 40  # not the first ones


# ---------------------------------------------------------------- test cells


def records_of(mean: float, n_shot: int, method, test_set) -> Records:
    """Records of two episodes whose accuracies have this mean."""
    measured = evaluate(method, test_set, EpisodeSpec(5, n_shot, 2), 2)
    accuracies = zip(measured.episodes, (mean - 0.1, mean + 0.1), strict=True)
    return replace(measured, episodes=[episode._replace(accuracy=accuracy) for episode, accuracy in accuracies])


def test_test_cells_are_scalars_and_a_table(toy_sets, small_protonet, tmp_path):
    method, test_set = small_protonet(), toy_sets[2]
    means = {"trained": {1: 0.7, 5: 0.8}, "raw pixels": {1: 0.4, 5: 0.5}}
    rows = {
        row: [records_of(mean, n_shot, method, test_set) for n_shot, mean in cells.items()]
        for row, cells in means.items()
    }
    track_tests("trained", rows, method, test_set, str(tmp_path), "float32", step=8)
    track_tests("trained", rows, method, test_set, str(tmp_path), "float32", step=8, test_set="coin")
    events = read_events(tmp_path)
    found = {tag: (e.step, round(e.value, 6)) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    assert found == {
        f"{tag}{behind}{row}": (8, value)
        for behind in ("", "/coin")
        for tag, row, value in (
            ("test/5-way_1-shot", "", 0.7), ("test/5-way_5-shot", "", 0.8),
            ("test_compared/5-way_1-shot", "/raw_pixels", 0.4), ("test_compared/5-way_5-shot", "/raw_pixels", 0.5),
        )
    }  # fmt: skip
    table = read_text(events, "test").splitlines()
    assert table[0] == "|  | 5-way 1-shot | 5-way 5-shot |"
    assert table[2].startswith("| trained | 70.00 ± ")
    assert "| 50.00 ± " in table[3]
    assert {e.tensor_name for e in read_projector(tmp_path)} == {"test classes", "test classes coin"}


# ---------------------------------------------------------------- names of runs


def test_names_of_runs_carry_what_differs():
    assert name_differences(ExperimentConfig(seed=3, dataset="coins", method="maml", run_dir="x")) == []
    config = ExperimentConfig(
        lr=3e-4, test_episodes=50, val_episodes=9, freeze_backbone=True, method_options={"inner_steps": 5},
        test_n_shot=[1, 10], pretrained_run="runs/a b",
    )  # fmt: skip
    assert name_differences(config) == [
        "lr=0.0003", "inner_steps=5", "freeze_backbone=True", "pretrained_run=runs_a_b",
        "test_n_shot=1_10", "test_episodes=50", "val_episodes=9",
    ]  # fmt: skip
    *kept, last = name_differences(replace(config, train_split="x" * LONGEST_DIFFERENCES, lr=0.5))
    assert last == "and_8_more"
    assert kept == []


def test_a_gallery_is_written_few_times_however_often_validation_gets_better(toy_sets, small_protonet, tmp_path):
    """After 1, 2, 4 and 8 steps of 12, and of the weights that are kept."""
    written = []
    config = replace(CONFIG, val_every_steps=1, run_dir=str(tmp_path / "run"))
    with pytest.MonkeyPatch.context() as patch:
        means = iter(range(1, 100))
        patch.setattr(Records, "estimate", property(lambda _: Estimate(next(means) / 100, 0.01)))
        patch.setattr(Tracker, "write_gallery", lambda _, step, *others: written.append(step))
        train(small_protonet(), toy_sets[0], toy_sets[1], config)
    assert written == [1, 2, 4, 8, 12]
