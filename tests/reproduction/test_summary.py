"""The main table: by hand from made-up rows, and as README.md and RESULTS.md hold it; the tables of the pages."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up_header

from fewshot import cli, commands
from fewshot.errors import DataError
from fewshot.evaluation.records import Scores
from fewshot.reproduction import runner
from fewshot.reproduction.tables.accuracies import Row
from fewshot.reproduction.tables.summary import COLUMNS, KINDS, LINES, format_best_of_kind, format_summary

ROOT = Path(__file__).parents[2]
SCRIPTS, RESULTS = ROOT / "scripts", ROOT / "results"
NOTHING = {dataset: {} for dataset in COLUMNS}


def row(name: str, n_way: int = 5, n_shot: int = 1, **header: object) -> Row:
    """One seed, accuracies 0.4 and 0.6: mean 50%, half-width t(1 degree, 97.5%) = 12.7062 times 0.1, 127.1%."""
    made_up = made_up_header(2, spec={"n_way": n_way, "n_shot": n_shot, "n_query": 15}, **header)
    return Row(name, {f"{n_way}-way {n_shot}-shot": [Scores(made_up, np.array([0.4, 0.6]))]})


def lines_of(table: str) -> dict[str, list[str]]:
    return {first.strip("| "): cells for first, *cells in (
        [cell.strip() for cell in line.removesuffix("|").split(" | ")] for line in table.splitlines()
    )}  # fmt: skip


def all_rows() -> dict[str, list[Row]]:
    return {"omniglot": [row(name) for name in LINES.values()], "cifar_fs": [], "coins": []}


def test_a_number_stands_in_the_column_of_its_data_set_and_cell():
    rows = all_rows()
    rows["omniglot"][0] = row("protonet", n_way=20, n_shot=5)
    rows["coins"] = [row("protonet", n_shot=4), row("not in the table")]
    lines = lines_of(format_summary(rows, NOTHING))
    assert lines[""] == ["Omniglot 5w1s", "5w5s", "20w1s", "20w5s", "CIFAR-FS 5w1s", "5w5s", "coins 5w1s", "5w4s"]
    assert lines["ProtoNet"] == ["–", "–", "–", "50.0 ± 127.1", "–", "–", "–", "50.0 ± 127.1"]
    assert lines["Baseline++"] == ["50.0 ± 127.1", *"–––––––"]
    assert [name for name in lines if name not in ("", "---")][:-1] == list(LINES)


def test_what_was_not_run_and_what_saw_the_test_classes_says_so():
    rows = all_rows()
    rows["cifar_fs"] = [Row("protonet", {"5-way 1-shot": []}), row("maml", seen_mark="trained on 3 of 20 classes")]
    lines = lines_of(format_summary(rows, NOTHING))
    assert lines["ProtoNet"][4:6] == ["not run", "–"]
    assert lines["MAML"][4] == "50.0 ± 127.1 (trained on 3 of 20 classes)"
    assert lines["MAML"][0] == "50.0 ± 127.1"


def test_the_re_run_is_the_published_one_in_the_same_digits():
    published = NOTHING | {
        "omniglot": {"protonet": {"paper": {"5w1s": 99.9}, "re-run": {"5w1s": 98.46, "20w5s": "97.0 ± 0.3"}}},
        "coins": {"maml": {"re-run": {"5w1s": 50.0}}},
    }
    lines = lines_of(format_summary(all_rows(), published))
    assert lines["*best independent re-run of ProtoNet*"] == ["*98.5*", "–", "–", "*97.0*", *"––––"]


def test_a_line_that_no_row_feeds_is_refused():
    rows = all_rows()
    rows["omniglot"] = rows["omniglot"][1:]
    with pytest.raises(DataError, match="line 'ProtoNet' shows 'protonet', which is a row of no data set"):
        format_summary(rows, NOTHING)


def test_only_files_with_the_lines_for_it_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "make_summaries", lambda scripts, stored: {"main table": "new", "short table": "newer"})
    lines = "a\n<!-- main table: begin -->\nold\n<!-- main table: end -->\nb\n"
    has, has_not = tmp_path / "README.md", tmp_path / "RESULTS.md"
    has.write_text(lines)
    has_not.write_text("mine\n")
    assert runner.refresh_summaries(SCRIPTS, RESULTS, [has, has_not, tmp_path / "missing.md"]) == [has]
    assert has.read_text() == lines.replace("old", "new")
    assert has_not.read_text() == "mine\n"
    assert not (tmp_path / "missing.md").exists()


@pytest.mark.parametrize("report", [None, "other.md"])
def test_reproduce_changes_no_file_unless_it_is_told(tmp_path, monkeypatch, capsys, report):
    monkeypatch.setattr(cli, "reuse_freed_memory", lambda: None)  # it is for the whole process
    monkeypatch.chdir(tmp_path)
    old = "<!-- main table: begin -->\nold\n<!-- main table: end -->\n"
    Path("README.md").write_text(old)
    words = ["cifar_fs", "--methods", "protonet", "--cells", "5w5s", "--budget", "0", "--results", str(RESULTS)]
    with pytest.raises(SystemExit, match="0"):
        commands.main(["reproduce", *words, *(["--report", report] if report else [])])
    assert {str(path) for path in Path().rglob("*")} == {"README.md", *([report] if report else [])}
    assert Path("README.md").read_text() == old
    printed = capsys.readouterr().out
    assert re.search(r"\n\| method +\| 5w5s +\| seeds ", printed)
    assert re.search(r"\n\| protonet +\| \d+\.\d\d ± \d+\.\d\d +\| 1 ", printed)  # of the seed that was asked: 0
    assert "| maml" not in printed
    with pytest.raises(SystemExit, match="2"):
        commands.main(["reproduce", *words, "--report", "x.md", "--publish"])


def test_published_are_the_page_and_the_main_table(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "make_summaries", lambda scripts, stored: {"main table": "new", "short table": "newer"})
    monkeypatch.setattr(cli, "reuse_freed_memory", lambda: None)  # it is for the whole process
    monkeypatch.chdir(tmp_path)
    old = "<!-- main table: begin -->\nold\n<!-- main table: end -->\n"
    Path("README.md").write_text(old)
    arguments = ["cifar_fs", "--methods", "protonet", "--budget", "0", "--publish"]
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "reproduce.py"), run_name="__main__")
    assert ended.value.code == 0
    assert Path("README.md").read_text() == old.replace("old", "new")
    written = [str(path) for path in Path().rglob("*.md")]
    assert sorted(written) == ["README.md", "docs/results/cifar_fs.md"]
    page = Path("docs/results/cifar_fs.md").read_text()
    assert page.startswith("# cifar_fs: all methods\n\n<!-- reproduce cifar_fs: begin -->\n| method ")


def test_the_short_table_names_the_best_of_each_kind():
    rows = all_rows()
    rows["cifar_fs"] = [row("protonet", n_shot=5), row("matching", n_shot=5), row("maml, transductive", n_shot=5)]
    better = Scores(rows["cifar_fs"][1].cells["5-way 5-shot"][0].header, np.array([0.5, 0.7]))
    rows["cifar_fs"][1] = Row("matching", {"5-way 5-shot": [better]})
    lines = lines_of(format_best_of_kind(rows, NOTHING | {"cifar_fs": {"protonet": {"re-run": {"5w5s": 72.1}}}}))
    assert lines[""] == ["Omniglot 20w1s", "CIFAR-FS 5w5s", "coins 5w4s"]
    episodic, adapting, plain = (lines[kind] for kind in KINDS)
    assert episodic == ["not run", "60.0 ± 127.1 Matching", "not run"]
    assert adapting == plain == ["not run"] * 3
    assert lines["*best independent re-run of ProtoNet*"] == ["–", "*72.1*", "–"]


def test_readme_and_results_hold_the_tables_that_results_make():
    tables = runner.make_summaries(SCRIPTS, RESULTS)
    for file, name in (("README.md", "short table"), ("RESULTS.md", "main table")):
        held = (ROOT / file).read_text(encoding="utf-8")
        assert f"<!-- {name}: begin -->\n{tables[name]}\n<!-- {name}: end -->" in held, f"{file}: {AGAIN}"


@pytest.mark.parametrize("dataset", sorted(path.name for path in (SCRIPTS / "recipes").iterdir() if path.is_dir()))
def test_each_page_holds_the_tables_that_results_make(dataset):
    text = runner.format_section(
        SCRIPTS / "recipes" / dataset, RESULTS / dataset, SCRIPTS / "published" / f"{dataset}.yaml"
    )
    page = (ROOT / "docs" / "results" / f"{dataset}.md").read_text(encoding="utf-8")
    assert f"<!-- reproduce {dataset}: begin -->\n{text}\n<!-- reproduce {dataset}: end -->" in page, AGAIN


AGAIN = "make it anew: python scripts/reproduce.py DATASET --budget 0 --publish"
