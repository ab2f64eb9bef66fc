"""Figures: what is measured for them and kept, and that they say what the numbers say."""

import io
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import made_up_header
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.isotonic import IsotonicRegression

from fewshot import EpisodeSpec, create_backbone, create_method, evaluate, list_methods
from fewshot.errors import DataError, UnknownNameError
from fewshot.evaluation.records import EpisodeRecord, Records, Scores
from fewshot.experiments.build import build_method, load_split
from fewshot.methods import find_method
from fewshot.methods.base_classifier import Classifier
from fewshot.methods.prototypical import PrototypicalNetwork
from fewshot.methods.r2d2 import RidgeRegression
from fewshot.reproduction.figures import (
    Curves,
    Line,
    Panel,
    Point,
    choose_runs,
    draw,
    drawing,
    find_seeds,
    make_figures,
    measure,
    measure_curves,
    read_curves,
)
from fewshot.reproduction.figures.lines import keep_with_history, make_curve_lines, make_minute_panels
from fewshot.reproduction.figures.places import cover, place_beside, spread, trace
from fewshot.reproduction.recipes import find_runs
from fewshot.reproduction.results import Result
from fewshot.reproduction.runs import Run
from fewshot.runtime.checkpoint import save_checkpoint
from fewshot.runtime.provenance import hash_weights

# ---------------------------------------------------------------- places, ticks and scale

places = st.lists(st.floats(0, 1), min_size=1, max_size=14).map(sorted)


@settings(max_examples=50, deadline=None)
@given(places)
def test_names_keep_their_distance_and_stay_as_near_as_can_be(wanted):
    gap = 0.05
    found = spread(wanted, gap, 0.0, 1.0)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(found))
    assert found[0] >= -1e-9
    assert found[-1] <= 1 + 1e-9
    ranks = gap * np.arange(len(wanted))
    oracle = IsotonicRegression(y_min=0, y_max=1 - ranks[-1]).fit_transform(np.arange(len(wanted)), wanted - ranks)
    np.testing.assert_allclose(found, oracle + ranks, atol=1e-7)


def test_too_many_names_share_the_room():
    assert spread([0.5] * 5, 0.4, 0.0, 1.0) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert spread([], 0.4, 0.0, 1.0) == []


def test_a_name_beside_its_line_covers_no_other_line():
    size, none = np.array([0.2, 0.05]), np.empty((0, 2, 2))
    end, empty = (0.5, 0.5), np.empty((0, 2))
    beside_left, beside_right = trace(np.array([[0.4, 0.0], [0.4, 1.0]])), trace(np.array([[0.6, 0.0], [0.6, 1.0]]))
    level = trace(np.array([[0.0, 0.5], [1.0, 0.5]]))
    assert place_beside(end, size, empty, none) == (-1, 0.5)
    assert place_beside(end, size, beside_left, none) == (1, 0.5)
    assert place_beside(end, size, beside_right, none) == (-1, 0.5)
    side, at = place_beside(end, size, np.concatenate([level, beside_left]), none)
    assert side == 1
    assert abs(at - 0.5) == pytest.approx(0.025)
    assert place_beside((0.1, 0.5), size, beside_right, none) == (1, 0.5)  # no room at the left
    taken = cover(end, size, -1)[None]
    assert place_beside(end, size, empty, taken) == (1, 0.5)
    assert place_beside(end, size, beside_right, taken)[0] == -1
    assert place_beside(end, size, beside_right, taken)[1] == pytest.approx(0.45)  # below, never above


def test_the_scale_is_that_of_the_odds():
    assert drawing.logit(np.array([0.5, 0.8, 0.2])) == pytest.approx([0, math.log(4), -math.log(4)])


def test_all_right_is_drawn_half_an_answer_from_one():
    line = Line("", PrototypicalNetwork, [1, 2], [1.0, 0.5], [0.0, 0.1], [0.005, 0.005])
    assert line.shown() == pytest.approx([math.log(0.995 / 0.005), 0])
    assert line.shown(-1)[1] == pytest.approx(math.log(0.4 / 0.6))
    assert line.shown(1)[1] == pytest.approx(math.log(0.6 / 0.4))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.3, 8))
def test_ticks_lie_inside_and_apart(accuracy, width):
    low = float(drawing.logit(np.array(accuracy)))
    ticks = sorted(drawing.place_ticks(low, low + width))
    at = [math.log(t / (100 - t)) for t in ticks]
    assert all(low - 1e-9 <= a <= low + width + 1e-9 for a in at)
    assert all(b - a >= drawing.TICK_GAP * width * (1 - 1e-9) for a, b in itertools.pairwise(at))


def test_ticks_of_a_usual_figure():
    assert {50, 90, 99} <= set(drawing.place_ticks(-0.1, 5))
    assert len(drawing.place_ticks(2.2, 2.6)) >= 3  # 90.0 to 93.1%


def test_every_method_has_a_colour_of_its_own():
    drawn = [Classifier, *filter(lambda kind: kind.published, map(find_method, list_methods()))]
    assert len({kind.label for kind in drawn}) == len({kind.colour for kind in drawn}) == len(drawn) > 12
    assert all(re.fullmatch("#[0-9A-F]{6}", kind.colour) for kind in drawn)
    assert {kind.family for kind in drawn} == {"stage one", *drawing.MARKS}


# ---------------------------------------------------------------- what is measured


def test_points_that_cannot_be_drawn_say_why(toy_sets, small_protonet):
    specs, missing = measure.list_possible(small_protonet(), toy_sets[2])  # 12 classes of 8 images
    assert {(s.n_way, s.n_shot) for s in specs} == {(w, 1) for w in (2, 3, 5, 7, 10)} | {(5, s) for s in (2, 3)}
    assert set(missing) == {f"5-way {s}-shot" for s in (4, 5, 7, 10, 15)} | {f"{w}-way 1-shot" for w in (15, 20)}
    assert "12 classes" in missing["15-way 1-shot"]
    assert re.search(r"\b8\b", missing["5-way 4-shot"])


def test_a_method_of_one_way_is_measured_there_alone(toy_sets):
    anil = create_method("anil", create_backbone("conv4", 1, 16, n_filters=4), n_way=3)
    specs, missing = measure.list_possible(anil, toy_sets[2])
    assert [(s.n_way, s.n_shot) for s in specs] == [(3, 1)]
    assert missing["5-way 2-shot"] == "it was trained for 3-way episodes alone"


SPEC = {"n_way": 2, "n_shot": 1, "n_query": 2, "disjoint_groups": False}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A data set of 6 test classes of 8 images, which shows 5 ways and 3 shots."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, n_classes in (("train", 2), ("val", 2), ("test", 6)):
        for name in "abcdef"[:n_classes]:
            folder = root / split / f"{split}-{name}"
            folder.mkdir(parents=True)
            for i in range(8):
                pixels = np.clip(rng.normal(40 * "abcdef".index(name), 60, (16, 16)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def project(tmp_path, images) -> tuple[Path, Run, Path]:
    """The recipes' folder, the run of seed 3, which has ended, and the folder of results with its result."""
    recipes, results = tmp_path / "recipes" / "toy", tmp_path / "results" / "toy"
    recipes.mkdir(parents=True)
    (recipes / "protonet.yaml").write_text(
        f"dataset: folder\ndata_root: {images}\ndataset_options: {{size_px: 16, channels: 1}}\nmax_steps: 9\n"
        "backbone_options: {n_filters: 4}\ntest_n_way: [2]\ntest_n_shot: [1]\ntest_n_query: 2\nprecision: float32\n"
    )
    run = find_runs(recipes, tmp_path / "out", [3])[0]
    finish(run, seed=0)
    run.result().write(results / "protonet-seed3.json")
    return recipes, run, results


def finish(run: Run, seed: int) -> None:
    """Leave behind what a run does, with the initial weights of `seed`."""
    if not run.folder.config.exists():
        run.folder.claim(run.config, resume=False)
    method = build_method(replace(run.config, seed=seed), (1, 16, 16))
    save_checkpoint(run.folder.last, {
        "method": method.state_dict(), "image_shape": [1, 16, 16], "progress": [9, 9, 0.5, 30.0],
        "history": [[4, 12.0, 0.7, 0.02], [9, 30.0, 0.8, 0.02]],
    })  # fmt: skip
    header = made_up_header(2, spec=SPEC, weights=hash_weights(method), config={}, hardware="an abacus")
    for row in ("trained", "untrained"):
        records = [EpisodeRecord(i, 0.5, 0.1, 2, 2, 0, 0.0) for i in range(2)]
        Records(header, records).write(run.records_file(row, "2-way 1-shot"))


def test_points_are_measured_once_on_test_episodes(project, monkeypatch, capsys):
    _, run, results = project
    measure_curves([run], results, 30, 20)
    (curves,) = read_curves(results)
    assert [p.cell for p in curves.points] == [(2, 1), (3, 1), (5, 1), (5, 2), (5, 3)]
    method = build_method(replace(run.config, seed=0), (1, 16, 16))
    for point in curves.points:
        records = evaluate(method, load_split(run.config, "test"), EpisodeSpec(*point.cell, 5), 30)
        assert (point.mean, point.half_width_95) == pytest.approx(records.estimate, abs=1e-6)
    header = curves.header
    assert (header["weights"], header["n_episodes"], header["n_query"]) == (hash_weights(method), 30, 5)
    assert (header["split"], header["selected_on"]) == ("test", "val")
    printed = capsys.readouterr().out
    assert re.search(r"protonet, seed 3: 5 points in \d+ s\n  without 5-way 4-shot: .*\b8\b", printed)
    assert "20-way 1-shot: " in printed

    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("measured again"))
    measure_curves([run], results, 30, 20)
    assert "protonet, seed 3: had been measured\n" in capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception):
        measure_curves([run], results, 31, 20)  # other episodes
    finish(run, seed=1)
    with pytest.raises(pytest.fail.Exception):
        measure_curves([run], results, 30, 20)  # other weights


def test_a_method_that_runs_its_network_in_every_episode_has_fewer_of_them(project, monkeypatch):
    _, run, results = project
    monkeypatch.setattr(PrototypicalNetwork, "uses_features", False)
    measure_curves([run], results, 30, 20)
    (curves,) = read_curves(results)
    assert curves.header["n_episodes"] == 20
    records = evaluate(build_method(replace(run.config, seed=0), (1, 16, 16)), load_split(run.config, "test"),
                       EpisodeSpec(5, 2, 5), 20)  # fmt: skip
    assert next(p.mean for p in curves.points if p.cell == (5, 2)) == pytest.approx(records.mean, abs=1e-6)


def test_only_the_missing_points_are_measured(project, monkeypatch):
    _, run, results = project
    measure_curves([run], results, 30, 20)
    (whole,) = read_curves(results)
    file = results / "curves" / "protonet-seed3.json"
    replace(whole, points=[p for p in whole.points if p.cell != (5, 2)]).write(file)
    asked = []
    real = measure.measure
    monkeypatch.setattr(measure, "measure", lambda *a: asked.extend(a[2]) or real(*a))
    measure_curves([run], results, 30, 20)
    assert asked == [EpisodeSpec(5, 2, 5)]
    assert read_curves(results)[0].points == whole.points


def test_runs_that_have_not_ended_are_named(project, capsys):
    recipes, run, results = project
    run.records_file("trained", "2-way 1-shot").unlink()
    measure_curves(find_runs(recipes, run.folder.path.parents[1], [0, 3]), results, 30, 20)
    assert capsys.readouterr().out == "not measured, since no run of the recipe as it is now has ended: protonet\n"
    assert not (results / "curves").exists()


def test_a_run_of_a_changed_recipe_is_not_measured(project, capsys):
    recipes, run, results = project
    with (recipes / "protonet.yaml").open("a") as file:
        file.write("lr: 0.5\n")
    measure_curves(find_runs(recipes, run.folder.path.parents[1], [3]), results, 30, 20)
    assert "protonet, seed 3: not measured: " in capsys.readouterr().out
    assert not (results / "curves").exists()


def test_seeds_are_those_of_the_folders(tmp_path):
    assert find_seeds(tmp_path) == [0]
    for name in ("maml-seed2", "maml_20way-seed10", "maml-seedling", "other"):
        (tmp_path / name).mkdir()
    assert find_seeds(tmp_path) == [2, 10]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "points": [{"n_way": 5}]}'])
def test_other_files_are_no_curves(tmp_path, text):
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "a-seed0.json").write_text(text)
    with pytest.raises(DataError, match=r"a-seed0\.json"):
        read_curves(tmp_path)


# ---------------------------------------------------------------- what is drawn


def test_the_same_figures_from_the_stored_files_alone(project, capsys):
    recipes, run, results = project
    measure_curves([run], results, 30, 20)
    paths = make_figures(results, [run], [run])
    names = [f"{what}.{suffix}" for what in ("shots", "ways", "minutes") for suffix in ("svg", "png")]
    assert [path.name for path in paths] == names
    before = [path.read_bytes() for path in paths]
    elsewhere = find_runs(recipes, Path("nowhere"))
    assert make_figures(results, elsewhere, choose_runs(elsewhere)) == paths
    assert [path.read_bytes() for path in paths] == before
    last = {(p.n_way, p.n_shot): p.mean for p in read_curves(results)[0].points}
    for text, value in zip(before[::2], (last[5, 3], last[5, 1], 0.8), strict=True):
        assert f"ProtoNet  {100 * value:.1f}".encode() in text
        assert len(text) < 60_000
        assert b"<dc:date>" not in text
    assert b"minutes on an abacus" in before[4]
    assert [Image.open(io.BytesIO(png)).size[1] for png in before[1::2]] == [1080] * 3
    assert b"30 episodes a point, 5 queries a class; training seed 3" in before[0]
    assert "left out" not in capsys.readouterr().out


def test_curves_of_other_weights_than_the_result_are_left_out(project, capsys):
    _, run, results = project
    measure_curves([run], results, 30, 20)
    finish(run, seed=1)
    run.result().write(results / "protonet-seed3.json")
    assert [path.name for path in make_figures(results, [run], [run])] == ["minutes.svg", "minutes.png"]
    assert "protonet, seed 3: its curves are left out: they are not of the weights" in capsys.readouterr().out


def test_recipes_called_like_their_method_are_drawn(tmp_path):
    for name, text in {"protonet": "max_steps: 8\n", "protonet_long": "max_steps: 9\n",
                       "maml_20way": "row: maml\nmethod: maml\n",
                       "pretrain": "kind: pretrain\nmax_steps: 9\n"}.items():  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(text)
    runs = find_runs(tmp_path, tmp_path / "out")
    assert [run.name for run in choose_runs(runs)] == ["maml_20way", "protonet"]
    assert [run.name for run in choose_runs(runs, ["maml", "protonet_long"])] == ["maml_20way", "protonet_long"]
    with pytest.raises(UnknownNameError, match="Did you mean 'protonet'"):
        choose_runs(runs, ["protonett"])


def result(recipe: str, history: list, stages: list, **config: object) -> Result:
    """A stored result; its weights are called like the recipe."""
    facts = {"history": history, "stages": stages}
    usual = {"method": recipe, "val_n_way": 5, "val_n_shot": 1, "val_n_query": 10, "val_episodes": 20}
    header = made_up_header(spec=SPEC, weights=recipe, hardware="an abacus")
    return Result(recipe, 0, {**facts, "config": usual | config}, {"trained": [Scores(header, np.array([0.5]))]})


def test_minutes_begin_after_stage_one_and_panels_hold_one_task(capsys):
    meta = result("meta-baseline", [[50, 30.0, 0.8, 0.1], [100, 60.0, 0.9, 0.1]], [["", 1.5], ["", 1.0]],
                  pretrained_run="out/pretrain-seed0")  # fmt: skip
    stage = result("pretrain", [[7, 90.0, 0.7, 0.1]], [["", 1.5]], kind="pretrain", classifier="cosine")
    proto = result("protonet", [[10, 6.0, 0.95, 0.1]], [["", 0.1]], val_n_way=20)
    fewer = result("anil_10way", [[10, 12.0, 0.6, 0.2]], [["", 0.2]], method="anil", val_episodes=10)
    untold = result("maml", [], [["", 0.1]])
    shown = [meta, fewer, proto, untold]
    rows = {r.recipe: r.recipe.removesuffix("_10way") for r in [*shown, stage]}
    five, twenty = make_minute_panels(shown, {r.recipe: r for r in [*shown, stage]}, rows)
    assert [line.name for line in five.lines] == ["stage 1, cosine", "Meta-Baseline", "ANIL, 10-way"]
    assert five.lines[1].x == [2.0, 2.5]
    assert five.lines[1].mean == (0.8, 0.9)
    assert five.lines[1].resolution == [0.5 / (5 * 10 * 20)] * 2
    assert five.lines[2].resolution == [0.5 / (5 * 10 * 10)]
    assert five.heading == "5-way 1-shot validation, 10 to 20 episodes"
    assert twenty.heading == "20-way 1-shot validation, 20 episodes"
    assert [(line.name, line.x) for line in twenty.lines] == [("ProtoNet", [0.1])]
    assert capsys.readouterr().out == "not in minutes.svg, since no validation is stored: maml, seed 0\n"


def test_minutes_are_of_the_lowest_seed_that_kept_its_validations():
    lowest, untold = result("protonet", [], []), result("maml", [], [])
    told = [replace(result("protonet", [[10, 6.0, 0.9, 0.1]], []), seed=seed) for seed in (2, 1)]
    later = replace(untold, seed=5)
    for stored in ([lowest, *told, untold, later], [later, untold, *reversed(told), lowest]):
        chosen_seeds = {name: result.seed for name, result in keep_with_history(stored).items()}
        assert chosen_seeds == {"protonet": 1, "maml": 0}


def test_recipes_of_one_way_each_share_a_line():
    def curves(recipe: str, *points: tuple) -> Curves:
        return Curves(recipe, 0, {"n_episodes": 100}, [Point(w, s, m, 0.01, "c") for w, s, m in points], {})

    maml = [curves("maml", (5, 1, 0.9), (5, 15, 0.95)), curves("maml_20way", (20, 1, 0.8))]
    anil = curves("anil", (5, 1, 0.7))
    long = curves("protonet_long", (5, 1, 0.6), (20, 1, 0.5), (2, 1, 0.7))
    results = {c.recipe: result(c.recipe, [], []) for c in [*maml, anil]}
    results["maml_20way"] = result("maml_20way", [], [], method="maml")
    results["protonet_long"] = result("protonet_long", [], [], method="protonet")
    drawn = {c.recipe: c for c in [*maml, anil, long]}
    rows = {name: name for name in drawn} | {"maml_20way": "maml"}
    ways = {line.name: line for line in make_curve_lines(drawn, results, rows, "ways")}
    assert set(ways) == {"MAML", "ANIL", "protonet_long"}
    assert (ways["MAML"].x, ways["MAML"].mean) == ((5, 20), (0.9, 0.8))
    assert ways["MAML"].resolution == (0.5 / (100 * 5 * 5), 0.5 / (100 * 20 * 5))
    assert (ways["MAML"].joined, ways["MAML"].beside, ways["MAML"].dashed) == (False, False, False)
    assert (ways["ANIL"].joined, ways["ANIL"].beside) == (True, True)
    assert (ways["protonet_long"].x, ways["protonet_long"].dashed) == ((2, 5, 20), True)
    shots = {line.name: line for line in make_curve_lines({c.recipe: c for c in maml}, results, rows, "shots")}
    assert (shots["MAML"].x, shots["MAML"].joined) == ((1, 15), True)


def test_what_is_drawn_stands_where_the_numbers_are(tmp_path, monkeypatch):
    figures = []
    real = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or real(self, *a, **k))
    line = Line("R2D2", RidgeRegression, [1, 15], [0.8, 0.9], [0.1, 0.05], [1e-3] * 2)
    draw([Panel("", [line])], "shots", (1, 15), "title", "facts", tmp_path / "a.svg")
    (axes,) = figures[0].axes
    assert (tmp_path / "a.png").exists()
    data = axes.lines[0].get_xydata()
    np.testing.assert_allclose(data, [[1, math.log(4)], [15, math.log(9)]])
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(v, 9) for v in band[:, 1]} == {
        round(math.log(p / (1 - p)), 9) for p in (0.7, 0.8, 0.9, 0.9, 0.85, 0.95) if p != 0.8
    }
    assert [t.get_text() for t in axes.texts] == ["R2D2  90.0"]
    for at, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        assert float(label.get_text()) == pytest.approx(100 / (1 + math.exp(-at)))


def test_lines_that_are_not_solid_are_explained(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (path.touch(), figures.append(self)))
    method, points = find_method("maml"), ([1, 5], [0.5, 0.7], [0.01, 0.01], [0.01, 0.01])
    lines = [
        Line("a", method, *points),
        Line("b", method, *points, dashed=True),
        Line("c", method, *points, joined=False),
    ]
    for shown, words in ((lines[:1], []), (lines, ["a variant", "other weights at each point"])):
        draw([Panel("", shown)], "shots", (1, 5), "title", "facts", tmp_path / "a.svg")
        (axes,) = figures[-1].axes
        found = [text.get_text() for text in axes.get_legend().get_texts()]
        assert found == ["adapted by gradients", *words]
        FigureCanvasAgg(figures[-1]).draw()
        assert axes.get_legend().get_window_extent().x1 <= figures[-1].bbox.width
