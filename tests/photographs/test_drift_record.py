"""The record of what was asked of a classifier."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from drift_cases import CLASSES, make_reference, note

from fewshot.errors import DataError, OutputError
from fewshot.photographs.drift import record as recording
from fewshot.photographs.drift.history import read_histories
from fewshot.photographs.drift.record import DriftRecord


def append_many(path: str, number: int) -> None:
    reference = make_reference()
    record = DriftRecord(path, reference, CLASSES, "none")
    for time in range(25):
        record.append(note(reference, 3, (number, time)))


def test_several_processes_write_one_record(tmp_path):
    path = tmp_path / "drift.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append_many, args=(str(path), number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (history,), n_bad = read_histories(path)
    assert (len(history), n_bad) == (300, 0)
    assert path.read_text().count('"fewshot"') == 1  # one line describes the classifier for all of them
    expected = np.concatenate([note(make_reference(), 3, (k, t)).levels["known"] for k in range(4) for t in range(25)])
    assert sorted(history.noted.levels["known"].tolist()) == sorted(expected.tolist())
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("torn", [b'{"of":"', b'{"of":"x"}', b"\xff\xfe", b'{"fewshot": "drift-1", "id": "zz'])
def test_an_incomplete_line_is_ended_and_counted(tmp_path, torn):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    DriftRecord(path, reference, CLASSES, "none").append(note(reference, 2))
    with path.open("ab") as file:
        file.write(torn)
    DriftRecord(path, reference, CLASSES, "none").append(note(reference, 3))
    (history,), n_bad = read_histories(path)
    assert (len(history), n_bad) == (5, 1)


def test_a_header_that_was_cut_short_is_written_again(tmp_path):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    DriftRecord(path, reference, CLASSES, "none").append(note(reference, 2))
    whole = path.read_bytes()
    for cut in (0, 7, 60, 300):
        path.write_bytes(whole[:cut])
        DriftRecord(path, reference, CLASSES, "none").append(note(reference, 2))
        (history,), n_bad = read_histories(path)
        assert (len(history), n_bad) == (2, int(cut > 29))


def test_a_record_is_bounded_and_goes_on(tmp_path):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    record = DriftRecord(path, reference, CLASSES, "none", most_bytes=4000)
    other = DriftRecord(path, reference, CLASSES, "none", most_bytes=4000)
    for number in range(40):
        (record, other)[number % 2].append(note(reference, 2, number))
    assert path.stat().st_size <= 4000
    assert (tmp_path / "drift.jsonl.1").stat().st_size <= 4000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drift.jsonl", "drift.jsonl.1"]
    (history,), n_bad = read_histories(path)
    assert n_bad == 0
    assert 0 < len(history) < 80
    last = note(reference, 2, 39).levels["known"]
    assert sorted(history.noted.levels["known"][-2:].tolist()) == sorted(last.tolist())


def test_a_removed_record_begins_anew(tmp_path):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    record = DriftRecord(path, reference, CLASSES, "none")
    record.append(note(reference, 2))
    path.unlink()
    record.append(note(reference, 4))
    (history,), _ = read_histories(path)
    assert len(history) == 4


def test_other_files_are_left_alone(tmp_path):
    reference = make_reference()
    (tmp_path / "notes.txt").write_text("mine\n")
    with pytest.raises(OutputError, match=r"notes.txt is there already and is no drift record"):
        DriftRecord(tmp_path / "notes.txt", reference, CLASSES, "none")
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe is no regular file"):
        DriftRecord(tmp_path / "pipe", reference, CLASSES, "none")
    with pytest.raises(OutputError, match="cannot be written"):
        DriftRecord(tmp_path / "no" / "where.jsonl", reference, CLASSES, "none")
    with pytest.raises(DataError, match="is no drift record"):
        read_histories(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no regular file"):
        read_histories(tmp_path / "pipe")
    with pytest.raises(DataError, match="cannot be read"):
        read_histories(tmp_path / "missing")


def test_lines_of_another_kind_are_counted_and_left_out(tmp_path):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    record = DriftRecord(path, reference, CLASSES, "none")
    record.append(note(reference, 2))
    good = json.loads(path.read_bytes().splitlines()[1])
    bad = [
        {**good, "class": [0]}, {**good, "class": [0, 3]}, {**good, "known": [0.5, 1]}, {**good, "known": [10**12, 1]},
        {**good, "at": "noon"}, {**good, "of": "other"}, {**good, "more": []}, {**good, "refused": [True, 2]}, [], 7,
        {"fewshot": "drift-1"}, {**good, "known": None},
    ]  # fmt: skip
    with path.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in bad) + "[" * 100_000 + "\n")
    (history,), n_bad = read_histories(path)
    assert (len(history), n_bad) == (2, len(bad) + 1)


def test_a_record_says_what_it_holds_and_holds_no_more(tmp_path, monkeypatch):
    path, reference = tmp_path / "drift.jsonl", make_reference()
    monkeypatch.setattr(recording, "LONGEST_LINE", 4)
    DriftRecord(path, reference, CLASSES, "none").append(note(reference, 10))
    header, *lines = map(json.loads, path.read_text().splitlines())
    assert "no picture, no file name" in header["holds"]
    assert [len(line["class"]) for line in lines] == [4, 4, 2]
    for line in lines:
        assert set(line) == {"of", "at", "class", "refused", "known", "sure", "length", "centre"}
        assert all(type(x) is int for key in set(line) - {"of", "at"} for x in line[key])
