"""Tables made from records."""

from made_up import made_up_header

from fewshot import EpisodeSpec, Records, evaluate
from fewshot.evaluation import report
from fewshot.evaluation.records import EpisodeRecord


def made_up(accuracies: list[float], n_shot: object = 1, n_query: int = 15, transductive: bool = False) -> Records:
    spec = {"n_way": 5, "n_shot": n_shot, "n_query": n_query}
    header = made_up_header(len(accuracies), spec=spec, transductive=transductive)
    return Records(header, [EpisodeRecord(i, a, 0.1, 5, 5, 0, 0.0) for i, a in enumerate(accuracies)])


def test_percent_is_made_in_the_table():
    # mean 0.5, standard deviation 0.1 (n - 1), standard error 0.1 / sqrt(2), t(1 degree, 97.5%) = 12.706
    assert report.format_percent(made_up([0.5 - 0.0707106781, 0.5 + 0.0707106781]).estimate) == "50.00 ± 89.85"


def test_table_has_a_row_per_method_and_a_column_per_cell():
    rows = {"trained": [made_up([0.9, 0.9]), made_up([0.5, 0.5], [1, 5])], "raw": [made_up([1.0, 1.0])] * 2}
    lines = report.format_table(rows).splitlines()
    assert lines[0].split("  ")[-2:] == ["5-way 1-shot", "5-way 1–5-shot"]
    assert lines[2].split() == ["trained", "90.00", "±", "0.00", "50.00", "±", "0.00"]
    assert lines[3].split() == ["raw", "100.00", "±", "0.00", "100.00", "±", "0.00"]
    assert len({len(line) for line in lines}) == 1


def test_facts_say_what_was_measured():
    text = report.format_facts(made_up([0.9, 0.9]))
    for fact in ("omniglot/test", "2 episodes", "15 queries", "seed 0", "inductive", "on val", "abc", "def"):
        assert fact in text


def test_facts_of_a_table_name_the_rows_of_another_protocol():
    few = [made_up([0.9, 0.9], transductive=True, n_query=n) for n in (1, 5)]
    rows = {"trained": [made_up([0.9, 0.9])] * 2, "untrained": [made_up([0.2, 0.2])] * 2, "published": few}
    first, *others = report.format_all_facts(rows).splitlines()
    assert first == report.format_facts(rows["trained"][0])
    assert others == ["published: 1 queries a class, transductive; 5 queries a class, transductive"]


def test_facts_of_a_real_evaluation(small_protonet, toy_sets):
    records = evaluate(small_protonet(), toy_sets[2], EpisodeSpec(5, 1, 5), 4)
    assert toy_sets[2].fingerprint in report.format_facts(records)
    assert records.cell == "5-way 1-shot"
