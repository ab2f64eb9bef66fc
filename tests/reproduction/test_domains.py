"""Tables of several test sets, of the leak of groups, and recipes that start from another folder's runs."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up_header

from fewshot import EpisodeSampler, EpisodeSpec, ImageSet
from fewshot.evaluation.records import Scores
from fewshot.evaluation.statistics import compute_mean_interval
from fewshot.reproduction.figures.leak import choose_example, draw_leak
from fewshot.reproduction.recipes import find_runs, select_own
from fewshot.reproduction.tables.accuracies import Row
from fewshot.reproduction.tables.domains import find_reference, format_domains, pair
from fewshot.reproduction.tables.leak import compute_leak, find_pairs, format_leak

ONE, VARIED = "5-way 1-shot", "5–20-way 1–10-shot"


def scores(accuracy: list[float], n_way: object = 5, n_shot: object = 1, disjoint: bool = False, **header: object):
    spec = {"n_way": n_way, "n_shot": n_shot, "n_query": 10, "disjoint_groups": disjoint}
    return Scores(made_up_header(len(accuracy), spec=spec, **header), np.array(accuracy))


def numbers(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


# ---------------------------------------------------------------- several test sets


def domains() -> dict[str, list[Row]]:
    def rows(data: str, proto: list[float], other: list[float]) -> list[Row]:
        varied = scores([0.5, 0.7, 0.6], [5, 20], [1, 10], data_fingerprint=data)
        return [
            Row("protonet_lite0", {ONE: [scores(proto, data_fingerprint=data)], VARIED: [varied]}),
            Row("baseline_lite0", {ONE: [scores(other, data_fingerprint=data)], VARIED: []}),
        ]

    return {"coins": rows("a", [0.2, 0.4, 0.6], [0.4, 0.5]), "signs": rows("b", [0.3, 0.3, 0.3], [0.2, 0.4, 0.4])}


def test_a_column_for_each_test_set_and_differences_within_a_network():
    first, minus, varied = format_domains(domains())
    assert numbers(first.splitlines()[0]) == ["method", "coins 5w1s", "signs 5w1s", "episodes"]
    assert [numbers(line)[0] for line in first.splitlines()[2:]] == ["protonet_lite0", "baseline_lite0"]
    assert numbers(first.splitlines()[3])[-1] == "2; 3"
    assert numbers(varied.splitlines()[0])[1:3] == ["coins 5–20w1–10s", "signs 5–20w1–10s"]
    assert numbers(varied.splitlines()[3]) == ["baseline_lite0", "not run", "not run", "not run"]
    assert numbers(minus.splitlines()[0]) == ["minus ProtoNet", "coins 5w1s", "signs 5w1s", "mean of these"]
    (line,) = minus.splitlines()[2:]  # the reference has none
    name, coins, signs, mean = numbers(line)
    by_hand = [
        compute_mean_interval([0.4 - 0.2, 0.5 - 0.4]),
        compute_mean_interval([-0.1, 0.1, 0.1]),
    ]  # coins: the first two episodes
    halves = [100 * estimate.half_width_95 for estimate in by_hand]
    assert (name, coins) == ("baseline_lite0", f"+15.00 ± {halves[0]:.2f}")
    assert signs == f"+3.33 ± {halves[1]:.2f}"
    assert mean == f"+9.17 ± {np.sqrt(halves[0] ** 2 + halves[1] ** 2) / 2:.2f}"


def test_other_episodes_are_not_paired():
    (base, row), other = domains()["coins"], scores([0.1, 0.2, 0.3], seed=1)
    assert pair(row, base, ONE) is not None
    assert pair(Row("x_lite0", {ONE: [other]}), base, ONE) is None
    assert pair(None, base, ONE) is None
    assert pair(row, base, VARIED) is None


def test_the_reference_is_of_the_same_network():
    assert [find_reference(name) for name in ("baseline_lite0", "finetune_lora_mini")] == [
        "protonet_lite0", "protonet_mini",
    ]  # fmt: skip


# ---------------------------------------------------------------- the leak of groups


def leaking() -> list[Row]:
    return [
        Row("protonet", {ONE: [scores([0.9, 0.7, 0.8])]}),
        Row("protonet, tracks apart", {ONE: [scores([0.8, 0.7, 0.5], disjoint=True)]}),
        Row("protonet, more shots", {ONE: [scores([0.9, 0.9, 0.9], n_shot=2)]}),
        Row("baseline", {ONE: [scores([0.5, 0.5, 0.5])]}),
    ]


def test_the_leak_is_the_difference_on_the_same_classes():
    rows = leaking()
    assert [(shared.name, apart.name) for shared, apart in find_pairs(rows)] == [("protonet", "protonet, tracks apart")]
    half = 100 * compute_mean_interval([0.1, 0.0, 0.3]).half_width_95
    (line,) = format_leak(rows, [ONE]).splitlines()[2:]
    assert numbers(line)[0] == "protonet"
    assert numbers(line)[3] == f"+13.33 ± {half:.2f}"
    assert format_leak([rows[0], rows[2], rows[3]], [ONE]) == ""


@pytest.mark.parametrize("change", [{"seed": 1}, {"data_fingerprint": "other"}])
def test_what_differs_in_more_than_groups_is_no_leak(change):
    shared, apart = leaking()[:2]
    assert compute_leak(shared, apart, ONE) is not None
    assert compute_leak(apart, shared, ONE) is None  # the wrong way round
    other = Row(apart.name, {ONE: [replace(m, header=replace(m.header, **change)) for m in apart.cells[ONE]]})
    assert compute_leak(shared, other, ONE) is None


def test_an_episode_has_the_same_classes_with_and_without_disjoint_groups():
    """The leak is paired on this."""
    groups = np.arange(30 * 12) // 4  # 3 groups in each of 30 classes
    data = ImageSet(np.zeros((30 * 12, 1, 1, 1), np.uint8), np.arange(30 * 12) // 12, range(30), groups=groups)
    for spec in (EpisodeSpec(5, 1, 3), EpisodeSpec((5, 20), (1, 2), 3)):
        shared, apart = (EpisodeSampler(data, replace(spec, disjoint_groups=d)).batch(7, 40) for d in (False, True))
        assert (shared.classes == apart.classes).all()
        assert (shared.support_labels == apart.support_labels).all()  # as many ways and shots
        assert not (shared.query == apart.query).all()


def test_the_example_of_the_figure_shows_what_it_says():
    support, query = choose_example(disjoint=True)
    assert len(support) == 5
    assert len(query) == 15
    assert not set(support[:, 0]) & set(query[:, 0])
    support, query = choose_example(disjoint=False)
    assert set(support[:, 0]) & set(query[:, 0])


def test_the_figure_is_drawn_where_there_is_a_leak(tmp_path):
    svg, png = draw_leak(leaking(), [ONE], "facts", tmp_path / "leak.svg")
    text = svg.read_text()
    assert "+13.33 ±" in text
    assert "tracks apart" in text
    assert png.exists()
    assert draw_leak(leaking()[:1], [ONE], "facts", tmp_path / "none.svg") == []


# ---------------------------------------------------------------- recipes of another folder


@pytest.fixture
def neighbours(tmp_path) -> Path:
    for group in ("base", "far"):
        (tmp_path / "recipes" / group).mkdir(parents=True)
    (tmp_path / "recipes" / "base" / "protonet.yaml").write_text("max_steps: 3\n")
    (tmp_path / "recipes" / "far" / "rows.yaml").write_text(
        "kind: frozen\ntest_sets: {signs: {test_dataset: gtsrb}, birds: {test_dataset: cub}}\n"
        "rows:\n  protonet: {pretrained_run: runs/base/protonet, pretrained_method: true}\n"
    )
    return tmp_path / "recipes"


def test_a_run_starts_from_a_run_of_the_folder_that_its_path_names(neighbours):
    runs = find_runs(neighbours / "far", Path("out"), [2])
    assert [(run.group, run.name, run.test_set) for run in runs] == [
        ("base", "protonet", ""), ("far", "protonet_birds", "birds"), ("far", "protonet_signs", "signs"),
    ]  # fmt: skip
    first, *own = runs
    assert own == select_own(runs, neighbours / "far")
    assert all(run.stage_one == first for run in own)
    assert own[0].config.pretrained_run == str(Path("out/base/protonet-seed2"))
    assert [run.row for run in own] == ["protonet", "protonet"]


def test_the_same_cell_of_different_test_sets_may_have_other_episodes(neighbours):
    path = neighbours / "far" / "rows.yaml"
    path.write_text(re.sub("birds: {", "birds: {test_n_query: 3, ", path.read_text()))
    assert len(select_own(find_runs(neighbours / "far", Path("out")), neighbours / "far")) == 2
