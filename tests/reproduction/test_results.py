"""What is kept of a run: every accuracy and every header, in a small file; anything else is refused by name."""

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import made_up_header

from fewshot.errors import DataError, OutputError
from fewshot.evaluation.record_header import RecordHeader
from fewshot.evaluation.records import EpisodeRecord, Records, Scores
from fewshot.reproduction.results import Result, read_results

FACTS = {"config": {"lr": 0.1}, "stages": [("8 images", 1.5), ("", 0.0)], "history": [[250, 3.1, 0.5, 0.01]]}


def scores(right: list[int], n_way: int = 5, n_query: int = 15, **header: object) -> Scores:
    spec = {"n_way": n_way, "n_shot": 1, "n_query": n_query}
    return Scores(made_up_header(len(right), spec=spec, **header), np.array(right) / (n_way * n_query))


def changed(path: Path, **changes: object) -> None:
    """Change keys of the file; those of the records where they have them."""
    content = json.loads(path.read_text())
    for record in content["records"]:
        record |= {key: value for key, value in changes.items() if key in record}
    content |= {key: value for key, value in changes.items() if key not in content["records"][0]}
    path.write_text(json.dumps(content))


# ---------------------------------------------------------------- what comes back

SIZES = st.sampled_from([(5, 15), (17, 15), (16, 16), (20, 15), (100, 600)])  # 75, 255 | 256, 300, 60,000 queries


@given(size=SIZES, data=st.data())
def test_every_accuracy_comes_back(tmp_path_factory, size, data):
    n_queries = size[0] * size[1]
    counts = st.lists(st.integers(0, n_queries), min_size=1, max_size=30)
    rows = {name: [scores(data.draw(counts), *size) for _ in range(2)] for name in ("trained", "also: trained")}
    path = tmp_path_factory.mktemp("results") / "a.json"
    Result("maml", 3, FACTS, rows).write(path)
    for row, cells in Result.read(path).records.items():
        for kept, measured in zip(cells, rows[row], strict=True):
            np.testing.assert_array_equal(kept.accuracy, measured.accuracy)
    n_bytes = {record["bytes"] for record in json.loads(path.read_text())["records"]}
    assert n_bytes == {1 if n_queries <= 255 else 2}


REFUSED = r"maml-seed3\.json (is no result of a run|does not hold the result of a run)"
OF_HEADER = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(-1, 1),
        "method": st.sampled_from(["", "–", "a"]),
        "weights": st.sampled_from(["", "–"]),
    },
)


@given(headers=st.lists(OF_HEADER, min_size=1, max_size=4))
def test_every_header_comes_back_to_the_letter(tmp_path_factory, headers):
    path = tmp_path_factory.mktemp("results") / "a.json"
    rows = {f"row {i}": [scores([75], **header)] for i, header in enumerate(headers)}
    Result("maml", 3, FACTS, rows).write(path)
    back = [cells[0].header for cells in Result.read(path).records.values()]
    assert list(map(sorted_text, back)) == [sorted_text(cells[0].header) for cells in rows.values()]


def sorted_text(header: RecordHeader) -> str:
    return json.dumps(header.as_dict(), sort_keys=True)  # 1, 1.0 and true differ


def test_name_seed_facts_and_order_come_back(tmp_path):
    rows = {"trained": [scores([3]), scores([4])], "a, b": [scores([5])]}
    Result("maml", 3, FACTS, rows).write(tmp_path / "deeper" / "a.json")
    result = Result.read(tmp_path / "deeper" / "a.json")
    assert (result.recipe, result.seed) == ("maml", 3)
    assert result.facts == {**FACTS, "stages": [["8 images", 1.5], ["", 0.0]]}  # JSON knows no pairs
    assert [(row, [s.mean * 75 for s in cells]) for row, cells in result.records.items()] == [
        ("trained", pytest.approx([3, 4])),
        ("a, b", pytest.approx([5])),
    ]
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == ["a.json"]  # no temporary file is left


def test_records_of_the_evaluator_are_kept_as_counts(tmp_path):
    accuracies = [float(np.float32(k / 300)) for k in range(301)]  # the evaluator divides in float32
    header = made_up_header(301, spec={"n_way": 20, "n_shot": 1, "n_query": 15})
    records = Records(header, [EpisodeRecord(i, a, 0.1, 20, 20, 0, 0.0) for i, a in enumerate(accuracies)])
    Result("maml", 0, {}, {"trained": [records]}).write(tmp_path / "a.json")
    (kept,) = Result.read(tmp_path / "a.json").records["trained"]
    np.testing.assert_array_equal(kept.accuracy, np.arange(301) / 300)
    assert kept.cell == "20-way 1-shot"


# ---------------------------------------------------------------- the file


def test_what_headers_share_stands_there_once_with_the_percentage_to_read(tmp_path):
    # 60 and 75 of 75: mean 90; standard deviation (n - 1) 14.1421, standard error 10, t(1, 97.5%) = 12.7062
    rows = {"trained": [scores([60, 75], weights="w1")], "raw": [scores([75, 75], peak_mib=3.5)]}
    Result("maml", 3, FACTS, rows).write(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    shared = made_up_header(2).as_dict()
    del shared["weights"]
    assert content["common"] == shared
    assert [record["header"] for record in content["records"]] == [
        {"weights": "w1"},
        {"weights": "w0", "peak_mib": 3.5},
    ]
    assert [record["percent"] for record in content["records"]] == [[90.0, 127.06], [100.0, 0.0]]
    counts = zlib.decompress(base64.b64decode(content["records"][0]["right"]))
    assert list(counts) == [60, 75]
    lines = (tmp_path / "a.json").read_text().splitlines()
    assert [line.count('"row"') for line in lines if '"row"' in line] == [1, 1]  # kind to version control


def test_a_result_without_records_can_be_kept(tmp_path):
    Result("maml", 3, FACTS, {}).write(tmp_path / "a.json")
    assert Result.read(tmp_path / "a.json").records == {}


def test_four_cells_of_a_thousand_episodes_are_small(tmp_path):
    rng = np.random.default_rng(0)
    cells = []
    for n_way, p, spread in ((5, 0.985, 0.02), (5, 0.996, 0.005), (20, 0.955, 0.02), (20, 0.99, 0.005)):
        chance = np.clip(rng.normal(p, spread, 1000), 0, 1)  # episodes differ in difficulty
        cells.append(scores(rng.binomial(15 * n_way, chance).tolist(), n_way, weights="0123456789abcdef"))
    Result("protonet", 0, FACTS, {"trained": cells}).write(tmp_path / "a.json")
    assert (tmp_path / "a.json").stat().st_size < 6000


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("accuracy", [0.5, 76 / 75, -1 / 75, np.nan])  # 37.5 of 75, too many, fewer than none
def test_accuracies_that_no_count_gives_are_refused(tmp_path, accuracy):
    bad = Scores(scores([75, 75]).header, np.array([1.0, accuracy]))
    with pytest.raises(DataError, match=r"a\.json: 5-way 1-shot: accuracies are not k / 75"):
        Result("maml", 3, FACTS, {"trained": [bad]}).write(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_queries_that_cannot_be_counted_in_two_bytes_are_refused(tmp_path):
    header = scores([75]).header
    many = Scores(replace(header, spec=header.spec | {"n_way": 1000, "n_query": 66}), np.ones(1))
    with pytest.raises(DataError, match=r"a\.json: only episodes of fewer than 65,536 queries"):
        Result("maml", 3, FACTS, {"trained": [many]}).write(tmp_path / "a.json")


@pytest.mark.parametrize("change", [{"n_way": [5, 20]}, {"n_query": [5, 10]}])
def test_accuracies_of_varying_numbers_of_queries_come_back_to_the_last_bit(tmp_path, change):
    accuracy = np.array([37 / 50, 0.0, 1.0, 111 / 130, 2 / 3])
    header = scores([75] * 5).header
    varying = Scores(replace(header, spec=header.spec | change), accuracy)
    path = tmp_path / "a.json"
    Result("maml", 3, FACTS, {"trained": [varying]}).write(path)
    (back,) = Result.read(path).records["trained"]
    np.testing.assert_array_equal(back.accuracy, accuracy)
    assert back.header == varying.header
    content = json.loads(path.read_text())
    assert content["records"][0]["percent"][0] == round(100 * accuracy.mean(), 2)
    longer = base64.b64encode(zlib.compress(np.ones(6).tobytes())).decode()
    above = base64.b64encode(zlib.compress(np.full(5, 1.5).tobytes())).decode()
    for bad in (longer, above):
        content["records"][0]["accuracy"] = bad
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match="the accuracies are not those of 5 episodes"):
            Result.read(path)


def test_an_older_file_stays_where_the_new_one_cannot_be_made(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    Result("maml", 3, FACTS, {"trained": [scores([70])]}).write(path)
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        Result("maml", 3, FACTS, {"trained": [scores([10])]}).write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == before


@pytest.fixture
def stored(tmp_path) -> Path:
    Result("maml", 3, FACTS, {"trained": [scores([60, 75, 71])]}).write(tmp_path / "maml-seed3.json")
    return tmp_path / "maml-seed3.json"


def test_a_file_cut_anywhere_is_refused(stored):
    whole = stored.read_text()
    for length in range(0, len(whole) - 2, 17):
        stored.write_text(whole[:length])
        with pytest.raises(DataError, match=REFUSED):
            Result.read(stored)


@pytest.mark.parametrize("text", ["", "[]", "3", '"version"', "{}", '{"version": 1}', "\x00", "accuracy,0.9\n"])
def test_a_foreign_file_is_refused(stored, text):
    stored.write_text(text)
    with pytest.raises(DataError, match=REFUSED):
        Result.read(stored)


@pytest.mark.parametrize(
    "change",
    [
        {"right": base64.b64encode(zlib.compress(bytes([60, 75]))).decode()},  # an episode is missing
        {"right": base64.b64encode(zlib.compress(bytes([60, 75, 76]))).decode()},  # 76 of 75
        {"right": base64.b64encode(bytes([60, 75, 71])).decode()},  # not compressed
        {"right": "?"},
        {"bytes": 2},
        {"bytes": 3},
        {"n_queries": 300},
        {"records": 5},
        {"common": []},
    ],
)
def test_counts_that_do_not_fit_the_header_are_refused(stored, change):
    if next(iter(change)) in ("records", "common"):
        stored.write_text(json.dumps(json.loads(stored.read_text()) | change))
    else:
        changed(stored, **change)
    with pytest.raises(DataError, match=REFUSED):
        Result.read(stored)


def test_another_version_is_refused_as_such(stored):
    changed(stored, version=2)
    message = f"{stored} was written by another version of fewshot"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        Result.read(stored)


# ---------------------------------------------------------------- a folder of them


def test_a_folder_is_read_by_name_and_seed(tmp_path):
    for recipe, seed in (("protonet", 0), ("maml", 10), ("maml", 2)):
        Result(recipe, seed, FACTS, {"trained": [scores([7])]}).write(tmp_path / f"{recipe}-seed{seed}.json")
    (tmp_path / "notes.txt").write_text("not read")
    found = [(result.recipe, result.seed) for result in read_results(tmp_path)]
    assert found == [("maml", 2), ("maml", 10), ("protonet", 0)]
    assert read_results(tmp_path / "nothing") == []


def test_a_copy_does_not_count_as_a_further_seed(stored):
    (stored.parent / "maml-seed3 (copy).json").write_text(stored.read_text())
    with pytest.raises(DataError, match=r"maml-seed3 \(copy\)\.json and .*maml-seed3\.json both hold maml, seed 3"):
        read_results(stored.parent)
