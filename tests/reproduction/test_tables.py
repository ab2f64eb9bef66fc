"""Tables from stored results: means and intervals by hand, what did not run, what may not be compared."""

import re

import numpy as np
import pytest
from made_up import made_up_header

from fewshot.errors import DataError
from fewshot.evaluation.records import Scores
from fewshot.evaluation.rows import RowKind
from fewshot.reproduction.results import Result, describe_curve
from fewshot.reproduction.tables import accuracies, trainings
from fewshot.reproduction.tables.accuracies import Plan

ONE, FIVE, TWENTY = "5-way 1-shot", "5-way 5-shot", "20-way 1-shot"


def scores(accuracies: list[float], n_shot: int = 1, n_way: int = 5, **changes: object) -> Scores:
    about = {"spec": {"n_way": n_way, "n_shot": n_shot, "n_query": 15}, **changes}
    return Scores(made_up_header(**{"n_episodes": len(accuracies), **about}), np.array(accuracies))


def result(recipe: str, seed: int = 0, facts: dict | None = None, **rows: list[Scores]) -> Result:
    about = {"config": {"val_n_way": 20, "val_n_shot": 1}, "stages": [["80 episodes", 0.4]], "history": []}
    return Result(recipe, seed, about | (facts or {}), {name.replace("_", " "): cells for name, cells in rows.items()})


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(" | ")] for line in table[2:].replace("\n| ", "\n").splitlines()]


def lines_of(table: str) -> dict[str, list[str]]:
    """The lines below the head, by their first cell, without the bar at the end."""
    _, _, *lines = cells_of(table)
    return {name: [*middle, last.removesuffix("|").strip()] for name, *middle, last in lines}


def head_of(table: str) -> list[str]:
    return [cell.removesuffix("|").strip() for cell in cells_of(table)[0]]


# Seeds 0 and 1 on the same four episodes. Their means over seeds: 0.75, 0.75, 0.95, 0.95; mean 0.85, standard
# deviation (n - 1) 0.2 / sqrt(3), standard error 0.1 / sqrt(3) = 0.0577350, t(3 degrees, 97.5%) = 3.1824463:
# half-width 0.1837386. Each seed alone: mean 0.85, standard deviation sqrt(0.09 / 3), half-width 0.2756079.
SEED_0, SEED_1 = [0.6, 0.9, 0.9, 1.0], [0.9, 0.6, 1.0, 0.9]
PLAN = {"protonet": Plan("protonet", {"trained": [ONE, FIVE]})}


# ---------------------------------------------------------------- a cell


def test_the_interval_is_of_the_mean_over_seeds_in_each_episode():
    results = [result("protonet", seed, trained=[scores(a)]) for seed, a in enumerate((SEED_0, SEED_1))]
    (row,) = accuracies.make_rows(results, {"protonet": Plan("protonet", {"trained": [ONE]})})
    np.testing.assert_allclose(row.accuracy(ONE), [0.75, 0.75, 0.95, 0.95])
    assert row.estimate(ONE) == pytest.approx((0.85, 0.1837386), abs=1e-7)
    half_widths = [scores(a).half_width_95 for a in (SEED_0, SEED_1)]
    assert half_widths == pytest.approx([0.2756079] * 2, abs=1e-7)  # whose average is another


def test_the_spread_is_of_the_seeds_means():
    # Means 0.8, 0.9, 0.85: standard deviation with n - 1 = 2: sqrt((0.0025 + 0.0025) / 2) = 0.05; with n: 0.0408.
    values = ([0.7, 0.9], [0.8, 1.0], [0.85, 0.85])
    results = [result("protonet", seed, trained=[scores(a)]) for seed, a in enumerate(values)]
    (row,) = accuracies.make_rows(results, PLAN)
    assert row.spread(ONE) == pytest.approx(0.05)
    # Mean over seeds of each episode: 0.7833.., 0.9166..; mean 0.85, half-width 12.7062 * 0.0666667 = 0.847080
    assert accuracies.format_ours(row, ONE) == "85.00 ± 84.71 (5.00)"
    (alone,) = accuracies.make_rows(results[:1], PLAN)
    assert alone.spread(ONE) is None
    assert accuracies.format_ours(alone, ONE) == "80.00 ± 127.06"  # 12.7062 * 0.1
    assert accuracies.format_ours(alone, FIVE) == "not run"
    assert accuracies.format_ours(alone, TWENTY) == "–"


# ---------------------------------------------------------------- rows

MAML = {
    "maml": Plan("maml", {"trained": [ONE, FIVE], "transductive": [ONE, FIVE]}),
    "maml_20way": Plan("maml", {"trained": [TWENTY], "transductive": [TWENTY]}),
}


def maml_results() -> list[Result]:
    five = [
        result("maml", seed, trained=[scores([0.5, 0.5]), scores([0.75, 0.75], 5)],
               transductive=[scores([0.7, 0.7], transductive=True), scores([0.8, 0.8], 5, transductive=True)])
        for seed in (0, 1)
    ]  # fmt: skip
    twenty = [scores([0.4, 0.4], 1, 20)], [scores([0.6, 0.6], 1, 20, transductive=True)]
    return [*five, result("maml_20way", trained=twenty[0], transductive=twenty[1])]


def test_recipes_of_other_ways_stand_in_one_row_each_variant_in_its_own():
    rows = accuracies.make_rows(maml_results(), MAML)
    assert [row.name for row in rows] == ["maml", "maml, transductive"]
    lines = lines_of(accuracies.format_accuracies(rows, [ONE, FIVE, TWENTY]))
    zero = " ± 0.00"
    both = f"{zero} (0.00)"
    assert lines == {
        "maml, transductive": [f"70.00{both}", f"80.00{both}", f"60.00{zero}", "2 / 2 / 1", "yes", "val"],
        "maml": [f"50.00{both}", f"75.00{both}", f"40.00{zero}", "2 / 2 / 1", "no", "val"],
    }


def test_what_is_planned_and_did_not_run_says_so_and_what_no_recipe_measures_is_a_dash():
    plan = {**MAML, "protonet": Plan("protonet", {"trained": [ONE]})}
    lines = lines_of(accuracies.format_accuracies(accuracies.make_rows(maml_results()[:1], plan), [ONE, FIVE, TWENTY]))
    assert lines["maml"] == ["50.00 ± 0.00", "75.00 ± 0.00", "not run", "1 / 1 / 0", "no", "val"]
    assert lines["protonet"] == ["not run", "–", "–", "–", "–", "–"]


def test_names_of_rows():
    plan = {
        "pretrain_cosine": Plan("classifier-baseline_cosine", {RowKind.CLASSIFIER: [ONE]}),
        "coins_10way": Plan("coins", {RowKind.TRAINED: [ONE]}),
        "frozen_net": Plan("frozen_net", {RowKind.FROZEN: [ONE]}),
        "protonet": Plan("protonet", {RowKind.UNTRAINED: [ONE], RowKind.RAW_PIXELS: [ONE], "two steps": [ONE]}),
    }
    assert [row.name for row in accuracies.make_rows([], plan)] == [
        "classifier-baseline_cosine", "coins", "frozen_net", "untrained protonet", "raw pixels", "protonet, two steps",
    ]  # fmt: skip


def test_a_further_test_set_has_rows_of_its_own():
    stored = result("protonet", trained=[scores([0.5])])
    stored.records["no rotations: trained"] = [scores([0.25])]
    (row,) = accuracies.make_rows([stored], PLAN, "no rotations")
    assert row.accuracy(ONE) == [0.25]
    (row,) = accuracies.make_rows([stored], PLAN)
    assert row.accuracy(ONE) == [0.5]
    (row,) = accuracies.make_rows([stored], PLAN, "another")
    assert row.cells == {ONE: [], FIVE: []}


@pytest.mark.parametrize(
    ("key", "value"), [("data_fingerprint", "xyz"), ("seed", 1), ("split", "val"), ("n_episodes", 3)]
)
def test_seeds_measured_on_different_episodes_are_refused(key, value):
    other = result("protonet", 1, trained=[scores([0.5, 0.5], **{key: value})])
    with pytest.raises(DataError, match=rf"protonet, 5-way 1-shot: .* different episodes, {key}: \[.*, '?{value}'?\]"):
        accuracies.make_rows([result("protonet", trained=[scores([0.5, 0.5])]), other], PLAN)


def test_two_recipes_that_measure_the_same_cell_of_a_row_are_refused():
    plan = {name: Plan("maml", {"trained": cells}) for name, cells in (("maml", [ONE]), ("maml_20way", [ONE, TWENTY]))}
    with pytest.raises(DataError, match="maml, 5-way 1-shot: maml_20way and a recipe before it both measure"):
        accuracies.make_rows([], plan)


def test_best_first_in_the_first_cell_then_what_has_a_later_one_then_what_did_not_run():
    plan = {name: Plan(name, {"trained": [ONE, FIVE]}) for name in ("absent", "worse", "best")}
    plan |= {name: Plan(name, {"trained": [FIVE]}) for name in ("later", "better_later")}
    results = [
        result("worse", trained=[scores([0.5]), scores([0.99], 5)]),
        result("best", trained=[scores([0.6]), scores([0.7], 5)]),
        result("later", trained=[scores([0.97], 5)]),
        result("better_later", trained=[scores([0.98], 5)]),
    ]
    table = accuracies.format_accuracies(accuracies.make_rows(results, plan), [ONE, FIVE])
    assert list(lines_of(table)) == ["best", "worse", "better_later", "later", "absent"]
    assert head_of(table) == ["method", "5w1s", "5w5s", "seeds", "transductive", "weights selected on"]


# ---------------------------------------------------------------- differences

# (0.5, 0.7) minus (0.4, 0.5) is 0.1 and 0.2: mean 0.15, standard deviation (n - 1) 0.0707107, standard error 0.05,
# t(1 degree, 97.5%) = 12.7062: half-width 0.63531. The second seed swaps: (0.4, 0.6) and (0.6, 0.8) have that mean.
BASE = result("protonet", trained=[scores([0.4, 0.5]), scores([0.9, 0.9], 5)])
BETTER = [
    result("better", 0, trained=[scores([0.4, 0.6]), scores([0.8, 0.8], 5)]),
    result("better", 1, trained=[scores([0.6, 0.8]), scores([0.8, 0.8], 5)]),
]


def differences(*results: Result, reference: str = "protonet") -> str:
    recipes = dict.fromkeys([*(r.recipe for r in results), "absent"])
    rows = accuracies.make_rows(results, {name: Plan(name, {"trained": [ONE, FIVE]}) for name in recipes})
    return accuracies.format_differences(rows, [ONE, FIVE], reference)


def test_differences_are_paired_by_episode_on_the_mean_over_seeds():
    table = differences(BASE, *BETTER)
    assert head_of(table) == ["minus protonet", "5w1s", "5w5s"]
    assert lines_of(table) == {"better": ["+15.00 ± 63.53", "−10.00 ± 0.00"]}


@pytest.mark.parametrize(
    "change",
    [
        {"data_fingerprint": "xyz"},
        {"seed": 1},
        {"split": "val"},
        {"spec": scores([1.0]).header.spec | {"n_query": 5}},
    ],
)
def test_other_episodes_are_not_subtracted(change):
    other = result("other", trained=[scores([0.5, 0.7], **change), scores([0.8, 0.8], 5)])
    assert lines_of(differences(BASE, other)) == {"other": ["–", "−10.00 ± 0.00"]}


def test_fewer_episodes_are_not_subtracted():
    other = result("other", trained=[scores([0.5, 0.7, 0.9])])
    assert lines_of(differences(BASE, other)) == {"other": ["–", "–"]}


def test_no_table_of_differences_without_a_reference_or_something_to_compare():
    assert differences(*BETTER) == ""
    assert differences(BASE) == ""
    assert differences(BASE, *BETTER, reference="absent") == ""


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("means", "word"),
    [
        # Half-width 0.0196: a standard error of 0.01. Steps 10 to 80; the last quarter is 70 and 80.
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.60, 0.62], "rising"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.62, 0.10], "rising"),  # the best of the last quarter, not the last
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.605, 0.6], "flat"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.595, 0.1], "flat"),
        ([0.1, 0.9, 0.3, 0.4, 0.5, 0.6, 0.70, 0.80], "falling"),  # the best before, not the last before
        ([0.5, 0.5, 0.5, 0.6], "rising"),
        ([0.5, 0.5, 0.6], "too few points"),
        ([0.5], "too few points"),
        ([], "not kept"),
    ],
)
def test_the_curve_at_the_end(means, word):
    assert describe_curve([[10 * i, 1.0, mean, 0.0196] for i, mean in enumerate(means, 1)]) == word


def test_the_first_three_quarters_end_at_their_last_step():
    history = [[10, 1.0, 0.5, 0.0196], [20, 1.0, 0.5, 0.0196], [30, 1.0, 0.9, 0.0196], [40, 1.0, 0.5, 0.0196]]
    assert describe_curve(history) == "falling"  # step 30 of 40 is not in the last quarter


def test_a_curve_that_begins_in_the_last_quarter_has_too_few_points():
    assert describe_curve([[90 + i, 1.0, 0.5, 0.01] for i in range(5)]) == "too few points"


def test_how_recipes_were_trained():
    rising = [[step, 1.0, step / 100, 0.01] for step in (10, 20, 30, 40, 50)]
    flat = [[step, 1.0, 0.7, 0.01] for step in (10, 20, 30, 40)]
    stages = [["1,920 images", 2.0], ["80 episodes", 0.5]]
    one = [scores([0.5])]
    results = [
        result("protonet", 0, {"stages": [["80 episodes", 0.4]], "history": rising}, trained=one),
        result("protonet", 2, {"stages": [["64 episodes", 0.2]], "history": flat}, trained=one),
        result("meta", 0, {"stages": stages, "config": {"val_n_way": [5, 10], "val_n_shot": 1}}, trained=one),
        result("baseline", 0, {"stages": [["1,920 images", 2.0], ["", 0.01]], "history": []}, trained=one),
        result("nearest", 0, {"stages": [["", 0.01]], "history": []}, trained=one),
    ]
    table = trainings.format_trainings(results, ["protonet", "meta", "baseline", "nearest", "absent"])
    assert head_of(table) == [
        "recipe", "training seeds", "trained on", "minutes a seed", "best validation", "validation at the end",
    ]  # fmt: skip
    assert lines_of(table) == {
        "protonet": ["0, 2", "80 episodes; 64 episodes", "0.3", "60.00 (20w1s)", "rising; flat"],
        "meta": ["0", "1,920 images + 80 episodes", "2.0 + 0.5", "–", "not kept"],
        "baseline": ["0", "1,920 images", "2.0", "–", "–"],
        "nearest": ["0", "nothing", "–", "–", "–"],
        "absent": ["not run", "–", "–", "–", "–"],
    }


def test_minutes_of_different_hardware_are_not_averaged():
    gpu = [scores([0.5], hardware="a GPU")]
    results = [
        result("meta", 0, {"stages": [["8 images", 9.0], ["80 episodes", 6.0]]}, trained=[scores([0.5])]),
        result("meta", 1, {"stages": [["8 images", 1.0], ["80 episodes", 0.5]]}, trained=gpu),
        result("meta", 2, {"stages": [["8 images", 2.0], ["80 episodes", 0.7]]}, trained=gpu),
    ]
    (line,) = lines_of(trainings.format_trainings(results, ["meta"])).values()
    assert line[2] == "9.0 + 6.0; 1.5 + 0.6"
    assert line[-1] == "a CPU, 8 CPU cores; a GPU"


def test_cells_whose_training_ended_too_early():
    rising = {"history": [[step, 1.0, step / 100, 0.01] for step in (10, 20, 30, 40)]}
    flat = {"history": [[step, 1.0, 0.5, 0.01] for step in (10, 20, 30, 40)]}
    results = [result("maml", 0, flat), result("maml", 1, flat), result("maml_20way", 0, flat),
               result("maml_20way", 1, rising), result("protonet", 0, rising), result("other", 0, rising)]  # fmt: skip
    plan = {**MAML, "protonet": Plan("protonet", {row: [ONE] for row in ("trained", "untrained", "raw pixels")})}
    assert {row.name: row.still_rising for row in accuracies.make_rows(results, plan)} == {
        "maml": {TWENTY}, "maml, transductive": {TWENTY}, "protonet": {ONE}, "untrained protonet": set(),
        "raw pixels": set(),
    }  # fmt: skip


def test_the_cell_of_validation_may_be_a_range():
    history = [[10, 1.0, 0.7, 0.01]]
    facts = {"history": history, "config": {"val_n_way": [5, 10], "val_n_shot": 1}}
    assert "| 70.00 (5–10w1s) |" in trainings.format_trainings(
        [result("meta", 0, facts, trained=[scores([1.0])])], ["meta"]
    )


def test_seeds_of_different_stages_are_refused():
    stages = [["8 images", 1.0], ["80 episodes", 0.4]]
    results = [result("meta", trained=[scores([1.0])]), result("meta", 1, {"stages": stages}, trained=[scores([1.0])])]
    with pytest.raises(DataError, match="meta: its seeds were trained in different numbers of stages"):
        trainings.format_trainings(results, ["meta"])


def test_what_differs_is_a_column_and_what_is_shared_a_fact():
    results = [
        result("protonet", trained=[scores([0.5, 0.5])], raw=[scores([0.5, 0.5])]),
        result("maml", trained=[scores([0.5, 0.5], commit="123", hardware="a GPU")]),
    ]
    table = trainings.format_trainings(results, ["protonet", "maml", "absent"])
    assert head_of(table)[-3:] == ["validation at the end", "commit", "hardware"]
    assert {name: line[-2:] for name, line in lines_of(table).items()} == {
        "protonet": ["def", "a CPU, 8 CPU cores"], "maml": ["123", "a GPU"], "absent": ["–", "–"],
    }  # fmt: skip
    text = trainings.format_facts(results, "python x.py", MAML)
    assert "Shared by all: precision float32, data abc, torch 2.0, Python 3.12." in text
    for not_shared in ("commit", "GPU", "cores"):
        assert not_shared not in text


def test_facts():
    text = trainings.format_facts([result("protonet", 7, trained=[scores([0.5] * 1234)])], "python x.py", PLAN)
    for fact in (
        "omniglot, test classes, 1,234 episodes a cell", "15 queries a class", "episodes of seed 0", "Accuracy in %",
        "mean over training seeds ± 95% interval over episodes (standard deviation over training seeds)",
        "data abc, commit def, hardware a CPU, 8 CPU cores", "`python x.py`",
    ):  # fmt: skip
        assert fact in text, fact
    few = {"spec": {"n_way": 5, "n_shot": 1, "n_query": 2}}
    config = {"config": {"test_variants": {"few": {"n_query": 2}, "other": {"steps": 3}}}}
    rows = {"trained": [scores([0.5])], "other": [scores([0.5])], "few": [scores([0.5], **few)]}
    text = trainings.format_facts([result("maml_20way", 0, config, **rows)], "python x.py", MAML)
    assert "1 episodes a cell, 15 (maml, few: 2) queries a class, episodes" in text
    assert trainings.format_facts([], "python x.py", {}) == "Nothing was run yet. Command: `python x.py`"


# ---------------------------------------------------------------- Markdown


def test_columns_are_aligned_and_bars_escaped():
    assert accuracies.format_markdown(["a", "long head"], [["b|c", "1"], ["d", "−"]]).splitlines() == [
        "| a    | long head |",
        "| ---  | ---       |",
        r"| b\|c | 1         |",
        "| d    | −         |",
    ]


def test_a_bar_in_the_name_of_a_variant_stays_in_its_cell():
    stored = result("maml", trained=[scores([0.5])])
    stored.records["a|b"] = [scores([0.5])]
    table = accuracies.format_accuracies(accuracies.make_rows([stored], {"maml": Plan("maml", {"a|b": [ONE]})}), [ONE])
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} == {6}
    assert r"| maml, a\|b |" in table


def test_what_an_episode_costs():
    about = {"seconds": 40.0, "embedding_seconds": 0.0, "peak_mib": 900, "n_trainable": {"network": 1234, "head": 56}}
    tuned = result("full", frozen=[scores([0.5] * 20, **about)], untrained=[scores([0.2] * 20, **about)])
    kept = result("protonet", frozen=[scores([0.5] * 20, seconds=2.0, embedding_seconds=7.2, peak_mib=None)])
    assert trainings.format_costs([kept]) == ""
    assert lines_of(trainings.format_costs([tuned, kept])) == {
        "full": ["5w1s", "1,234", "56", "2.00", "–", "900"],
        "protonet": ["5w1s", "–", "–", "0.10", "7", "–"],
    }


def test_what_adapting_costs_the_base_classes():
    base = {"classifier": "own classifier", "n_classes": 64, "n_held_out": 3200, "n_images": 160}
    base |= {"before": [0.25, 0.01], "after": [0.2, 0.02], "difference": [-0.05, 0.015]}
    about = {"seconds": 40.0, "n_trainable": {"network": 1234, "head": 56}, "peak_mib": 900}
    tuned = result("full", frozen=[scores([0.5] * 20, **about, base_classes=base)])
    plain = result("linear", frozen=[scores([0.5] * 20, **about)])
    table = trainings.format_costs([tuned, plain])
    assert head_of(table)[-3:] == ["base classes before", "after", "difference"]
    assert lines_of(table)["full"][-3:] == ["25.00 ± 1.00", "20.00 ± 2.00", "−5.00 ± 1.50"]
    assert lines_of(table)["linear"][-3:] == ["–", "–", "–"]
    (sentence,) = trainings.describe_base_classes([tuned, plain])
    assert "64 training classes by the network's own classifier, 160 an episode of 3,200 images" in sentence
    assert trainings.describe_base_classes([plain]) == []
    assert "base classes" not in trainings.format_costs([plain])
