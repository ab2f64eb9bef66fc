"""The regression guard: the arithmetic of floors, what is refused, and that a broken network falls below its floor."""

import math
import re
import runpy
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up_header

from fewshot import Records, list_methods
from fewshot.errors import ConfigError, DataError, UnknownNameError
from fewshot.evaluation.records import EpisodeRecord
from fewshot.methods import METHODS, find_method
from fewshot.reproduction import guard
from fewshot.reproduction.guard import Floor, GuardConfig, Trial, trials
from fewshot.reproduction.guard.bounds import Floors

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECIPES, CONFIG, FLOORS = SCRIPTS / "recipes" / "glyphs", SCRIPTS / "guard.yaml", SCRIPTS / "guard_floors.json"
CHECK_SEED = 5

# ---------------------------------------------------------------- floors


def test_a_floor_is_the_mean_less_four_standard_deviations():
    # deviations -0.02, 0, 0.02: variance 0.0008 / 2, sd 0.02; 0.92 - 0.08
    assert Floor.of([0.90, 0.92, 0.94], 0.001) == Floor(0.84, 0.92, 0.02, 0.001)
    # sd 0.01 / sqrt 2 = 0.00707107; 0.905 - 0.02828427 = 0.87671573, rounded down
    assert Floor.of([0.90, 0.91], 0.0).floor == 0.876
    assert Floor.of([0.30, 0.10], 0.0).floor == 0.0  # 0.2 - 4 * 0.1414


def test_seeds_that_agree_by_luck_leave_four_episode_errors():
    assert Floor.of([0.9, 0.9, 0.9], 0.01).floor == 0.86
    assert Floor.of([0.90, 0.92, 0.94], 0.03).floor == 0.80  # 0.92 - 0.12


def test_a_floor_on_a_tenth_of_a_point_stays_there():
    assert Floor.of([0.7, 0.7], 0.0).floor == 0.7  # 0.7 * 1000 is 699.9999… or 700, as the rounding falls
    assert Floor.of([0.58, 0.58], 0.0).floor == 0.58


def test_one_seed_makes_no_floor():
    with pytest.raises(ConfigError, match="at least two training seeds, got 1"):
        Floor.of([0.9], 0.01)


def test_the_margin_counts_the_deviations_that_made_the_floor():
    assert Floor(0.84, 0.92, 0.02, 0.001).margin(0.92) == pytest.approx(4)
    assert Floor(0.84, 0.92, 0.02, 0.001).margin(0.80) == pytest.approx(-2)
    assert Floor(0.86, 0.90, 0.0, 0.01).margin(0.88) == pytest.approx(2)


def test_below_means_less_than_the_floor():
    floors = {"a": Floor(0.8, 0.9, 0.025, 0.01), "b": Floor(0.5, 0.9, 0.1, 0.01)}
    assert guard.find_below({"a": 0.8, "b": 0.5}, floors) == []
    assert guard.find_below({"a": 0.7999, "b": 0.5}, floors) == ["a"]
    assert guard.find_below({"a": 0.9, "b": math.nan}, floors) == ["b"]
    with pytest.raises(DataError, match=r"measured in \['a'\], but the floors are for \['a', 'b'\]"):
        guard.find_below({"a": 0.9}, floors)


def entry(floor: float, **options: object) -> Floors:
    cells = {cell: Floor(floor, 0.9, 0.025, 0.01) for cell in ("5-way 1-shot", "5-way 5-shot")}
    return Floors(cells, options, 300, {"precision": "float32", "data_fingerprint": "abc"})


def test_the_file_keeps_the_floors_of_other_recipes(tmp_path):
    file = tmp_path / "floors.json"
    assert guard.read_floors(file) == {}
    guard.write_floors(file, {"b": entry(0.8, max_steps=3), "a": entry(0.7)})
    guard.write_floors(file, {"a": entry(0.6, lr=0.1)})
    assert guard.read_floors(file) == {"a": entry(0.6, lr=0.1), "b": entry(0.8, max_steps=3)}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"cells": {"5-way 1-shot": {"floor": 0.8}}}}', '{"a": 3}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "floors.json").write_text(text)
    with pytest.raises(DataError, match=r"floors\.json (is no file of floors|does not hold floors)"):
        guard.read_floors(tmp_path / "floors.json")


# ---------------------------------------------------------------- what is committed


def test_every_recipe_and_every_method_has_its_floors(tmp_path):
    config, floors = guard.read_config(CONFIG), guard.read_floors(FLOORS)
    runs = guard.make_short_runs(RECIPES, tmp_path, config, [CHECK_SEED])
    published = {name for name in list_methods() if find_method(name).published}
    assert published <= {run.config.method for run in runs if not run.is_pretrain}
    assert {run.name for run in runs} == set(config.recipes) == set(floors)
    for run in runs:
        own = floors[run.name]
        assert (own.options, own.n_episodes) == (config.recipes[run.name], config.n_episodes)
        assert len(set(own.about["seeds"])) >= 5
        assert CHECK_SEED not in own.about["seeds"]  # what is compared has no part in its floor
        assert own.about["split"] == "val"
        assert own.cells.keys() == set(run.cells) == {"5-way 1-shot", "5-way 5-shot"}
        for cell, floor in own.cells.items():
            values = own.about["accuracies"][cell]
            assert len(values) == len(own.about["seeds"])
            lowest = statistics.mean(values) - 4 * max(statistics.stdev(values), floor.episode_error)
            assert 0 <= lowest - floor.floor < 0.00105, (run.name, cell)
            assert floor.floor > 0.22, (run.name, cell)  # chance is 0.2


def test_the_guard_changes_nothing_but_the_length_of_recipes():
    for recipe, options in guard.read_config(CONFIG).recipes.items():
        assert options.keys() <= {"max_steps"}, recipe


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def recipes(tmp_path) -> Path:
    """Two recipes of one method."""
    folder = tmp_path / "recipes" / "toy"
    folder.mkdir(parents=True)
    (folder / "protonet.yaml").write_text("max_steps: 9\nepisodes_per_step: 4\n")
    (folder / "quick.yaml").write_text("max_steps: 5\n")
    return folder


BOTH = GuardConfig(n_episodes=300, recipes={"protonet": {"max_steps": 3}, "quick": {}})


@pytest.fixture
def only_protonet(monkeypatch) -> None:
    """As if no other method were registered."""
    monkeypatch.setattr(METHODS, "_factories", {"protonet": METHODS["protonet"]})


@pytest.mark.usefixtures("only_protonet")
def test_a_recipe_is_cut_short(recipes, tmp_path):
    first, second = guard.make_short_runs(recipes, tmp_path, BOTH, [7])
    assert (first.name, first.config.max_steps, first.config.episodes_per_step) == ("protonet", 3, 4)
    assert (second.name, second.config.max_steps) == ("quick", 5)
    assert {(run.config.seed, run.config.test_episodes) for run in (first, second)} == {(7, 300)}


@pytest.mark.usefixtures("only_protonet")
def test_a_method_without_a_recipe_is_refused(recipes, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS._factories, "newcomer", METHODS["protonet"])
    with pytest.raises(ConfigError, match=r"no recipe of .*toy is for the method newcomer: add one"):
        guard.make_short_runs(recipes, tmp_path, BOTH, [7])
    assert len(guard.make_short_runs(recipes, tmp_path, BOTH, [7], ["quick"])) == 1  # asked for by name
    monkeypatch.setitem(METHODS._factories, "newcomer", type("Own", (METHODS["protonet"],), {"published": False}))
    assert len(guard.make_short_runs(recipes, tmp_path, BOTH, [7])) == 2


@pytest.mark.usefixtures("only_protonet")
def test_a_recipe_that_the_guard_cannot_cut_short_is_refused(recipes, tmp_path):
    with pytest.raises(ConfigError, match="does not say how the recipe quick is cut short"):
        guard.make_short_runs(recipes, tmp_path, GuardConfig(recipes={"protonet": {}}), [7])
    mistyped = replace(BOTH, recipes={**BOTH.recipes, "quick": {"max_step": 3}})
    with pytest.raises(UnknownNameError, match=r"option of the recipe quick 'max_step'. Did you mean 'max_steps'\?"):
        guard.make_short_runs(recipes, tmp_path, mistyped, [7])


def test_a_mistyped_configuration_is_refused(tmp_path, capsys):
    (tmp_path / "guard.yaml").write_text("episodes: 3\n")
    with pytest.raises(ConfigError, match=r"guard\.yaml is no valid configuration"):
        guard.read_config(tmp_path / "guard.yaml")
    assert "Did you mean n_episodes?" in capsys.readouterr().err


# ---------------------------------------------------------------- comparing, with trials that are made up


def made_up(run: object, one_shot: float, five_shot: float, **header: object) -> Trial:
    """A trial of two cells, each of two episodes that lie 0.02 apart: standard error 0.01."""
    records = []
    for shot, accuracy in ((1, one_shot), (5, five_shot)):
        facts = {"spec": {"n_way": 5, "n_shot": shot}, "dataset": "toy", "split": "val"}
        episodes = [EpisodeRecord(i, accuracy + d, 0.1, 5, 5, 0, 0.0) for i, d in enumerate((-0.01, 0.01))]
        records.append(Records(made_up_header(300, **facts, **header), episodes))
    return Trial(run.name, run.config.seed, records, 2.5)


@pytest.fixture
def trying(monkeypatch):
    """A function that says what each recipe reaches instead of training it; it returns the list of what was tried."""

    def make(reached: dict[str, tuple[float, float]], **header: object) -> list[str]:
        tried = []

        def trial(run):
            tried.append(run.name)
            return made_up(run, *np.add(reached[run.name], run.config.seed / 100), **header)

        monkeypatch.setattr(trials, "try_run", trial)
        return tried

    return make


@pytest.mark.usefixtures("only_protonet")
def test_what_fell_is_named(recipes, tmp_path, trying, capsys):
    guard.write_floors(tmp_path / "f.json", {"protonet": entry(0.8, max_steps=3), "quick": entry(0.7)})
    trying({"protonet": (0.85, 0.79), "quick": (0.7, 0.7)}, precision="bfloat16")
    fallen = guard.compare(guard.make_short_runs(recipes, tmp_path, BOTH, [0]), tmp_path / "f.json", BOTH)
    assert fallen == ["protonet, 5-way 5-shot: 79.0 is below 80.0"]
    first, second, note, last = capsys.readouterr().out.splitlines()
    assert re.search(r"protonet .* 85.0 \(floor 80.0, +\+2.0 sd\) .* 79.0 \(floor 80.0, +-0.4 sd\) .*BELOW", first)
    assert second.endswith("2.5 s  ok")
    assert note == "note: floors were made with precision float32, here it is bfloat16"
    assert last.endswith("Below the floor: protonet, 5-way 5-shot: 79.0 is below 80.0")


@pytest.mark.usefixtures("only_protonet")
@pytest.mark.parametrize(
    ("floors", "words"),
    [
        ({"protonet": entry(0.8, max_steps=3)}, "has no floor for quick; make it: .*--calibrate --recipes quick"),
        ({"protonet": entry(0.8, max_steps=4), "quick": entry(0.7)}, r"'max_steps': 4.* now .*'max_steps': 3.*anew"),
    ],
)
def test_without_the_right_floors_nothing_is_tried(recipes, tmp_path, trying, floors, words):
    guard.write_floors(tmp_path / "f.json", floors)
    tried = trying({"protonet": (0.9, 0.9), "quick": (0.9, 0.9)})
    with pytest.raises(ConfigError, match=words):
        guard.compare(guard.make_short_runs(recipes, tmp_path, BOTH, [0]), tmp_path / "f.json", BOTH)
    assert tried == []


@pytest.mark.usefixtures("only_protonet")
def test_a_missing_library_is_said(recipes, tmp_path, trying, capsys, monkeypatch):
    kind = type("Elsewhere", (METHODS["protonet"],), {"requires": "no_such_library", "published": False})
    monkeypatch.setitem(METHODS._factories, "elsewhere", kind)
    (recipes / "quick.yaml").write_text("method: elsewhere\nmax_steps: 5\n")
    guard.write_floors(tmp_path / "f.json", {"protonet": entry(0.8, max_steps=3)})
    tried = trying({"protonet": (0.9, 0.9)})
    assert guard.compare(guard.make_short_runs(recipes, tmp_path, BOTH, [0]), tmp_path / "f.json", BOTH) == []
    assert tried == ["protonet"]
    expected = "quick             not measured: no_such_library is not installed (make no_such_library)"
    assert expected in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("only_protonet")
def test_calibrating_makes_floors_of_the_seeds(recipes, tmp_path, trying):
    guard.write_floors(tmp_path / "f.json", {"other": entry(0.1)})
    trying({"protonet": (0.8, 0.9), "quick": (0.5, 0.5)})
    guard.calibrate(guard.make_short_runs(recipes, tmp_path, BOTH, [0, 2, 4]), tmp_path / "f.json", BOTH)
    floors = guard.read_floors(tmp_path / "f.json")
    assert floors["other"] == entry(0.1)
    own = floors["protonet"]  # 0.8, 0.82, 0.84: mean 0.82, sd 0.02; the episodes' error is 0.01
    assert own.cells["5-way 1-shot"] == Floor(0.74, 0.82, 0.02, 0.01)
    assert own.about["accuracies"] == {"5-way 1-shot": [0.8, 0.82, 0.84], "5-way 5-shot": [0.9, 0.92, 0.94]}
    assert (own.options, own.n_episodes, own.about["seeds"]) == ({"max_steps": 3}, 300, [0, 2, 4])
    for fact in ("commit", "command", "hardware", "precision", "data_fingerprint", "dataset", "split"):
        assert own.about[fact], fact


@pytest.mark.parametrize(("accuracy", "status"), [(0.0, 1), (0.94, 0)])  # the seed adds 0.05
def test_the_script_says_by_its_status_whether_something_fell(trying, monkeypatch, capsys, accuracy, status):
    tried = trying({"protonet": (accuracy, accuracy)})
    monkeypatch.setattr(sys, "argv", ["guard.py", "--recipes", "protonet"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / "guard.py"), run_name="__main__")
    assert (end.value.code, tried) == (status, ["protonet"])
    assert ("BELOW THE FLOOR" in capsys.readouterr().out) == bool(status)


# ---------------------------------------------------------------- the real thing


def reached(tmp_path: Path, recipe: str, **changes: object) -> dict[str, float]:
    """What the guard measures of a recipe, with some options changed."""
    *_, run = guard.make_short_runs(RECIPES, tmp_path, guard.read_config(CONFIG), [CHECK_SEED], [recipe])
    return guard.try_run(replace(run, config=replace(run.config, **changes))).means


def test_a_network_that_lacks_max_pools_falls_below_the_floor(tmp_path):
    floors = guard.read_floors(FLOORS)["protonet"].cells
    assert guard.find_below(reached(tmp_path / "intact", "protonet"), floors) == []
    broken = reached(tmp_path / "broken", "protonet", backbone_options={"n_pooled": 1})
    assert "5-way 1-shot" in guard.find_below(broken, floors)
