"""The header of records, and which records are comparable."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from made_up import made_up_header

from fewshot import Records
from fewshot.errors import DataError
from fewshot.evaluation.record_header import RecordHeader, find_episode_differences, same_episodes
from fewshot.evaluation.records import EpisodeRecord

ROOT = Path(__file__).parents[2]
NO_RECORDS = ("advice", "gpu", "trust")  # measurements that are no accuracies of episodes
STORED = sorted(path for path in (ROOT / "results").glob("*/*.json") if path.parent.name not in NO_RECORDS)
OTHER = {
    "spec": {"n_way": 5, "n_shot": 1, "n_query": 16}, "seed": 1, "n_episodes": 2, "split": "val",
    "data_fingerprint": "xyz",
}  # fmt: skip


def test_it_comes_back_from_a_file_and_says_nothing_of_what_is_not_known(tmp_path):
    records = Records(made_up_header(split=None), [EpisodeRecord(0, 0.5, 0.1, 5, 5, 0, 0.0)])
    known = records.add_facts(seen_mark="", run="runs/a")
    known.write(tmp_path / "a.jsonl")
    assert Records.read(tmp_path / "a.jsonl") == known
    said = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert said.keys() == {f.name for f in fields(RecordHeader)} - {
        "split", "peak_mib", "plugins", "n_trainable", "base_classes", "embedding_seconds", "config", "seen_classes",
            "seen_images",
    }  # fmt: skip
    assert (known.header.value("run"), known.header.value("config")) == ("runs/a", "unknown")
    assert records.header.run is None  # adding facts changes no header that is there


@pytest.mark.parametrize(("line", "word"), [('{"sed": 1}', "sed"), ('{"seed": 1}', "spec")])
def test_a_header_with_other_names_is_refused_by_name(tmp_path, line, word):
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=rf"a.jsonl does not hold records of an evaluation .*'{word}'"):
        Records.read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_stored_header_is_read_to_the_letter(path):
    content = json.loads(path.read_text())
    for record in content["records"]:
        header = content["common"] | record["header"]
        assert json.dumps(RecordHeader(**header).as_dict(), sort_keys=True) == json.dumps(header, sort_keys=True)


@pytest.mark.parametrize("name", [field.name for field in fields(RecordHeader)])
def test_what_decides_the_episodes_keeps_two_apart_and_nothing_else_does(name):
    """All other fields may differ: weights, method, precision, commit, machine, and what the run adds."""
    one = made_up_header()
    other = replace(one, **{name: OTHER.get(name, "something else")})
    assert same_episodes(one, other) == (name not in OTHER)
    assert find_episode_differences(one, other) == ({name: (getattr(one, name), OTHER[name])} if name in OTHER else {})
    assert same_episodes(one, other, same_pixels=False) == (name not in OTHER or name == "data_fingerprint")
