"""The papers' numbers beside ours: verdicts by hand, files of another form refused, and the files that we ship."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up import made_up_header

from fewshot.errors import ConfigError
from fewshot.evaluation.records import Scores
from fewshot.reproduction.recipes import find_runs
from fewshot.reproduction.runner import plan_rows
from fewshot.reproduction.tables import accuracies, published

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "scripts" / "published").glob("*.yaml"))
ONE, FIVE = "5-way 1-shot", "5-way 5-shot"


def row(name: str = "maml", **by_cell: list[float] | None) -> accuracies.Row:
    """A row with the cells 5w1s and 5w5s, as given: a seed with these accuracies, or planned and not run (None)."""
    cells = {}
    for short, values in by_cell.items():
        cell = {"c5w1s": ONE, "c5w5s": FIVE}[short]
        spec = {"n_way": 5, "n_shot": int(short[-2]), "n_query": 15}
        cells[cell] = [] if values is None else [Scores(made_up_header(spec=spec), np.array(values))]
    return accuracies.Row(name, cells)


def lines_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line[2:-1].split(" | ")] for line in table.splitlines()[2:]]


# ---------------------------------------------------------------- the table

# Mean 95, standard deviation (n - 1) 0.0141421, standard error 0.01, t(1 degree, 97.5%) = 12.7062: ± 12.71.
WIDE = [0.94, 0.96]


@pytest.mark.parametrize(
    ("target", "difference", "verdict"),
    [
        (94.9, "+0.10", "passed"),
        (95, "+0.00", "passed"),
        (95.01, "−0.01", "within the interval"),
        ("95.01?", "−0.01", "within the interval"),
    ],
)
@pytest.mark.parametrize("kind", ["paper", "re-run"])
def test_the_verdict_on_the_only_published_number(kind, target, difference, verdict):
    numbers = {"maml": {kind: {"source": "x", "5w1s": target}}}
    (line,) = lines_of(published.format_against([row(c5w1s=WIDE)], [ONE], numbers))
    named = [str(target), difference]
    both = [*named, "–", "–"] if kind == "paper" else ["–", "–", *named]
    assert line == ["maml", "5w1s", "95.00 ± 12.71", *both, verdict]


# 80 and 80.02: mean 80.01, standard deviation 0.000141421, standard error 0.0001: ± 0.127062, printed 0.13.
@pytest.mark.parametrize(("target", "verdict"), [(80.14, "within the interval"), (80.15, "below")])
def test_below_begins_beyond_the_printed_interval(target, verdict):
    numbers = {"maml": {"paper": {"source": "x", "5w1s": target}}}
    (line,) = lines_of(published.format_against([row(c5w1s=[0.80, 0.8002])], [ONE], numbers))
    assert line[2] == "80.01 ± 0.13"
    assert line[-1] == verdict


# Ours ± 0.13: with ± 0.4 of theirs sqrt(0.13² + 0.4²) = 0.42059, so what lies up to 0.42 higher is reached.
@pytest.mark.parametrize(("target", "verdict"), [("80.43 ± 0.4", "within the interval"), ("80.44 ± 0.4", "below")])
def test_the_interval_of_a_published_number_counts_too(target, verdict):
    numbers = {"maml": {"re-run": {"source": "x", "5w1s": target}}}
    (line,) = lines_of(published.format_against([row(c5w1s=[0.80, 0.8002])], [ONE], numbers))
    assert line[2] == "80.01 ± 0.13"
    assert line[-3] == target
    assert line[-1] == verdict


def test_below_because_of_a_short_training_says_so():
    numbers = {"maml": {"paper": {"source": "x", "5w1s": 99, "5w5s": 99}, "re-run": {"source": "x", "5w5s": 79}}}
    ours = row(c5w1s=[0.8, 0.8], c5w5s=[0.8, 0.8])
    ours.still_rising.update([ONE, FIVE])
    assert [line[-1] for line in lines_of(published.format_against([ours], [ONE, FIVE], numbers))] == [
        "below, still rising",
        "passed",
    ]
    ours.still_rising.clear()
    assert lines_of(published.format_against([ours], [ONE, FIVE], numbers))[0][-1] == "below"


def test_a_note_stands_beside_the_verdicts_on_its_numbers_alone():
    paper = {"source": "x", "note": "64 features against 512", "5w1s": 99, "5w5s": 79}
    both = [row(c5w1s=[0.8, 0.8], c5w5s=[0.8, 0.8])], [ONE, FIVE]
    assert [line[-1] for line in lines_of(published.format_against(*both, {"maml": {"paper": paper}}))] == [
        "below; 64 features against 512",
        "passed; 64 features against 512",
    ]
    both[0][0].still_rising.add(ONE)
    numbers = {"maml": {"paper": paper, "re-run": {"source": "y", "5w5s": 81}}}
    assert [line[-1] for line in lines_of(published.format_against(*both, numbers))] == [
        "below, still rising; 64 features against 512",
        "below",  # on the re-run, which has no note
    ]
    not_run = row(c5w1s=None)
    assert lines_of(published.format_against([not_run], [ONE], numbers))[0][-1] == "not run"


def test_a_mean_that_is_printed_as_the_number_has_reached_it():
    numbers = {"maml": {"paper": {"source": "x", "5w1s": 98.5}}}
    (line,) = lines_of(published.format_against([row(c5w1s=[0.984999, 0.984999])], [ONE], numbers))
    assert line[2:5] == ["98.50 ± 0.00", "98.5", "+0.00"]
    assert line[-1] == "passed"


def test_the_re_run_is_what_the_verdict_is_on():
    numbers = {"maml": {"paper": {"source": "x", "5w1s": 99.9}, "re-run": {"source": "y", "5w1s": 80.5}}}
    text = published.format_against([row(c5w1s=[0.85, 0.85])], [ONE], numbers)
    assert lines_of(text) == [["maml", "5w1s", "85.00 ± 0.00", "99.9", "−14.90", "80.5", "+4.50", "passed"]]
    head = [cell.strip() for cell in text.splitlines()[0][2:-1].split(" | ")]
    assert head == ["method", "cell", "ours", "paper", "ours − paper", "best re-run", "ours − re-run", "verdict"]


def test_cells_without_a_number_a_run_or_a_recipe():
    numbers = {
        "maml": {"paper": {"source": "x", "5w1s": 99.9, "20w1s": 96}, "re-run": {"source": "y", "5w5s": 80.5}},
        "nobody": {"paper": {"source": "x", "5w1s": 99.9}},
    }
    rows = [row("ours alone", c5w1s=[0.5, 0.5]), row(c5w1s=None, c5w5s=[0.85, 0.85])]
    assert lines_of(published.format_against(rows, [ONE, FIVE, "20-way 1-shot"], numbers)) == [
        ["maml", "5w1s", "not run", "99.9", "–", "–", "–", "not run"],
        ["maml", "5w5s", "85.00 ± 0.00", "–", "–", "80.5", "+4.50", "passed"],
    ]
    assert published.format_against(rows[:1], [ONE], numbers) == ""
    assert published.format_against(rows, [ONE], {}) == ""


def test_sources_say_what_was_not_checked():
    numbers = {"maml": {"paper": {"source": "Finn", "5w1s": 99.9}, "re-run": {"source": "a; b", "5w5s": 80.5}}}
    text = published.format_sources(numbers)
    assert text.startswith("**maml**, paper: Finn; **maml**, re-run: a; b. ")
    assert "verdict is on the re-run, or the paper where there is none" in text
    assert "memory" not in text
    numbers["maml"]["paper"]["5w5s"] = "98.55?"
    assert "Numbers with ? are quoted from memory and were not checked" in published.format_sources(numbers)


# ---------------------------------------------------------------- the file


def test_no_file_no_numbers(tmp_path):
    assert published.read(tmp_path / "none.yaml") == {}
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert published.read(tmp_path / "empty.yaml") == {}


def test_what_is_read(tmp_path):
    (tmp_path / "toy.yaml").write_text('maml, x:\n  paper: {source: "Finn, table 1", 5w1s: 98, 20w15s: "9.5?"}\n')
    assert published.read(tmp_path / "toy.yaml") == {
        "maml, x": {"paper": {"source": "Finn, table 1", "5w1s": 98, "20w15s": "9.5?"}}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maml: {paper: {source: x, 5w1s: 98", "is no YAML file"),
        ("- maml", "must map names"),
        ("just words", "must map names"),
        ("maml: 98.8", r": maml must hold names with a value each, got 98\.8"),
        ("maml:", ": maml must hold names with a value each, got None"),
        ("maml: {paper: 98.8}", r": maml: paper must hold names with a value each, got 98\.8"),
        ("maml: {paper: source}", ": maml: paper must hold names with a value each, got 'source'"),
        ("maml: {rerun: {source: x, 5w1s: 98}}", ": maml: rerun must be paper or re-run, and name its source"),
        ("maml: {paper: {5w1s: 98}}", ": maml: paper must be paper or re-run, and name its source"),
        ("maml: {paper: {source: , 5w1s: 98}}", ": maml: paper must be paper or re-run, and name its source"),
        ("maml: {paper: {source: x, 5-way 1-shot: 98}}", ": maml: paper: 5-way 1-shot: 98 is not as 98.8"),
        ("maml: {paper: {source: x, 5w1: 98}}", ": maml: paper: 5w1: 98 is not as"),
        ("maml: {paper: {source: x, 5w1s: 98.8 +- 0.4}}", ": maml: paper: 5w1s: .* is not as"),
        ("maml: {paper: {source: x, 5w1s: 98.8 ±}}", ": maml: paper: 5w1s: .* is not as"),
        ("maml: {paper: {source: x, 5w1s: ± 0.4}}", ": maml: paper: 5w1s: .* is not as"),
        ("maml: {paper: {source: x, 5w1s: 100.1 ± 0.4}}", ": maml: paper: 5w1s: .* is not as"),
        ("maml: {paper: {source: x, 5w1s: }}", ": maml: paper: 5w1s: None is not as"),
        ("maml: {paper: {source: x, 5w1s: true}}", ": maml: paper: 5w1s: True is not as"),
        ("maml: {paper: {source: x, 5w1s: 0}}", ": maml: paper: 5w1s: 0 is not as"),
        ("maml: {paper: {source: x, 5w1s: -3.5}}", r": maml: paper: 5w1s: -3\.5 is not as"),
        ("maml: {paper: {source: x, 5w1s: 100.1}}", r": maml: paper: 5w1s: 100\.1 is not as"),
        ("maml: {paper: {source: x, 5w1s: .nan}}", ": maml: paper: 5w1s: nan is not as"),
        ("maml: {paper: {source: x, note: 64, 5w1s: 98}}", ": maml: paper: the note must be text, got 64"),
        ("maml: {paper: {source: x, note: , 5w1s: 98}}", ": maml: paper: the note must be text, got None"),
        ('maml: {paper: {source: x, 5w1s: "988?"}}', r": maml: paper: 5w1s: '988\?' is not as"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name_and_row(tmp_path, text, message):
    (tmp_path / "toy.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"toy\.yaml{message}" if message[0] == ":" else rf"toy\.yaml {message}"):
        published.read(tmp_path / "toy.yaml")


def test_a_file_of_bytes_is_refused_by_name(tmp_path):
    (tmp_path / "toy.yaml").write_bytes(b"maml: \xff")
    with pytest.raises(ConfigError, match=r"toy\.yaml is no YAML file"):
        published.read(tmp_path / "toy.yaml")


# ---------------------------------------------------------------- what we ship


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_published_number_stands_beside_a_cell_that_a_recipe_measures(file):
    numbers = published.read(file)  # refuses what is not in (0, 100]
    runs = find_runs(ROOT / "scripts" / "recipes" / file.stem, Path("unused"))
    measured = {row.name: set(map(accuracies.shorten, row.cells)) for row in accuracies.make_rows([], plan_rows(runs))}
    assert numbers
    for name, kinds in numbers.items():
        assert name in measured, f"{file.name}: no recipe measures {name}"
        for kind, entry in kinds.items():
            cells = entry.keys() - {"source", "note"}
            assert cells, f"{file.name}: {name}, {kind}: no number"
            assert cells <= measured[name], f"{file.name}: {name}, {kind}: no recipe measures all of {cells}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_row_or_cell_stands_twice(file):
    """YAML would take the last one and say nothing."""
    nodes = [yaml.compose(file.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{file.name}: {keys}"
            nodes += [value for _, value in node.value]


def test_what_was_not_checked_at_its_source_is_marked():
    """Numbers that we know from memory alone: Chen et al. 2019 and Bertinetto et al. 2019 on Omniglot."""
    numbers = published.read(ROOT / "scripts" / "published" / "omniglot.yaml")
    for name in ("baseline", "baseline++", "r2d2"):
        for cell, number in numbers[name]["paper"].items():
            assert cell in ("source", "note") or str(number).endswith("?"), f"{name}: {cell}"


def test_the_best_re_run_of_protonet_is_the_same_wherever_it_is_said():
    cells = {"omniglot": ("5w1s", "5w5s", "20w1s", "20w5s"), "cifar_fs": ("5w1s", "5w5s")}
    best = {
        name: [f"{published.read(ROOT / 'scripts' / 'published' / f'{name}.yaml')['protonet']['re-run'][cell]:.1f}"
               for cell in cells_of]
        for name, cells_of in cells.items()
    }  # fmt: skip
    results = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    row = next(line for line in results.splitlines() if "best independent re-run of ProtoNet" in line)
    assert re.findall(r"\*([\d.]+)\*", row) == best["omniglot"] + best["cifar_fs"]
    recipe = (ROOT / "scripts" / "recipes" / "omniglot" / "protonet.yaml").read_text(encoding="utf-8")
    assert f"the best independent re-runs: {' / '.join(best['omniglot'])}" in recipe
