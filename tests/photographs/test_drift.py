"""Evidence for a change, its record, and `fewshot monitor`."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

from fewshot import FewShotClassifier, commands
from fewshot.errors import ConfigError, DataError, OutputError
from fewshot.estimator.drift import DriftReference, Noted, find_centre
from fewshot.photographs.drift import record as recording
from fewshot.photographs.drift.evidence import HIGH, LOW, POWERS, bet, join, rank_online
from fewshot.photographs.drift.history import History, parse_time, read_histories
from fewshot.photographs.drift.record import DriftRecord
from fewshot.photographs.drift.verdict import judge
from fewshot.runtime import seeding
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint

CLASSES = ["a", "b & <b>", "c"]


def make_reference(n: int = 24, shift: float = 0.0) -> DriftReference:
    rng = seeding.numpy_generator(0, "reference")
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    probabilities = 0.1 + 0.7 * np.eye(3)[labels]
    return DriftReference.collect(probabilities, np.arange(n), labels, None, features, rng.normal(size=n) + shift, -1.0)


def note(reference: DriftReference, n: int, name: object = 0, lower: float = 0.0) -> Noted:
    rng = seeding.numpy_generator(1, "asked", name)
    labels = rng.integers(0, 3, n)
    known = rng.normal(size=n) - lower
    features = rng.normal(size=(n, 8)) + 3 * np.eye(8)[labels]
    return reference.note(0.1 + 0.7 * np.eye(3)[labels], features, known, known >= -1)


def make_history(noted: Noted, left_out: Noted, steps: dict[str, float] | None = None) -> History:
    times = np.datetime64("2026-11-28T10:00", "m") + np.arange(len(noted))
    return History("1", tuple(CLASSES), "none", steps or dict.fromkeys(noted.levels, 0.1), left_out, noted, times)


# ---------------------------------------------------------------- evidence


def test_ranks_are_those_of_counting():
    rng = np.random.default_rng(0)
    levels, before = rng.integers(-3, 3, 30), rng.integers(-3, 3, 9)
    kinds, kinds_before = rng.integers(0, 2, 30), rng.integers(0, 2, 9)
    found = rank_online(levels, kinds, before, kinds_before, np.random.default_rng(5))
    chance = np.random.default_rng(5).random(30)
    for t in range(30):
        own = [*before[kinds_before == kinds[t]], *levels[: t + 1][kinds[: t + 1] == kinds[t]]]
        less, equal = sum(x < levels[t] for x in own), sum(x == levels[t] for x in own)
        assert found[t] == pytest.approx((less + chance[t] * equal) / len(own))


def test_wealth_is_the_sum_of_bets_that_begin_at_each_photograph():
    ranks = np.random.default_rng(1).random(12) ** 2
    found = bet(ranks, (LOW, HIGH))
    for n in range(1, 13):
        wealth = np.log(2) / np.log(n + 2)  # what still waits
        for start in range(n):
            share = np.log(2) * (1 / np.log(start + 2) - 1 / np.log(start + 3))
            for p in (ranks, 1 - ranks):
                wealth += sum(share / 4 * np.prod(k * p[start:n] ** (k - 1)) for k in POWERS)
        assert found.log_wealth[n - 1] == pytest.approx(np.log(wealth))


def test_a_bet_is_fair():
    ranks = (np.arange(200_000) + 0.5) / 200_000
    for power in POWERS:
        assert np.mean(power * ranks ** (power - 1)) == pytest.approx(1, abs=0.02)
    assert join([np.log([2.0]), np.log([4.0])])[0] == pytest.approx(np.log(3))


def test_false_alarms_are_no_more_than_promised():
    """300 streams in which nothing changes, at a rate of 20%: both kinds of alarm together."""
    alarms = 0
    for number in range(300):
        rng = seeding.numpy_generator(number, "null")
        levels = {name: rng.integers(-40, 40, 150) for name in ("known", "length", "centre")}
        everything = Noted(rng.integers(0, 3, 150), rng.random(150) < 0.2, levels)
        alarms += judge(
            make_history(everything.select(np.arange(30, 150)), everything.select(np.arange(30))), 0.2
        ).is_alarm
    assert 0 < alarms <= 0.2 * 300


@pytest.mark.parametrize(("name", "by"), [("known", -30), ("length", 30), ("centre", -30)])
def test_a_change_is_found_and_when_it_began(name, by):
    rng = seeding.numpy_generator(0, "change")
    levels = {key: rng.normal(0, 16, 330).round().astype(int) for key in ("known", "length", "centre")}
    levels[name][230:] += by
    everything = Noted(rng.integers(0, 3, 330), None, levels)
    verdict = judge(make_history(everything.select(np.arange(30, 330)), everything.select(np.arange(30))))
    test = verdict.tests["photographs"]
    assert list(verdict.tests) == ["photographs"]
    assert test.leading == name
    assert 200 < test.alarm < 240
    assert 195 <= test.since <= 206


def test_photographs_that_fit_better_than_those_left_out_are_no_change():
    rng = seeding.numpy_generator(0, "better")
    levels = {"known": np.concatenate([rng.integers(-40, 40, 30), rng.integers(0, 80, 300)])}
    everything = Noted(np.zeros(330, int), None, levels)
    verdict = judge(make_history(everything.select(np.arange(30, 330)), everything.select(np.arange(30))))
    assert not verdict.is_alarm
    assert verdict.tests["photographs"].log_wealth.max() < 1


def test_a_class_that_comes_more_often_is_no_change_of_features():
    rng = seeding.numpy_generator(0, "mix")
    nearest = np.concatenate([np.arange(30) % 3, np.full(200, 2)])
    levels = {"length": 100 * nearest + rng.integers(-20, 20, 230)}
    everything = Noted(nearest, None, levels)
    assert not judge(make_history(everything.select(np.arange(30, 230)), everything.select(np.arange(30)))).is_alarm


def test_refusals_that_rise_are_told():
    rng = seeding.numpy_generator(0, "refusals")
    refused = np.concatenate([rng.random(130) < 0.1, rng.random(100) < 0.8])
    everything = Noted(np.zeros(230, int), refused, {"length": rng.integers(-40, 40, 230)})
    verdict = judge(make_history(everything.select(np.arange(30, 230)), everything.select(np.arange(30))))
    assert verdict.tests["photographs"].alarm is None
    assert 100 < verdict.tests["refusals"].alarm < 140


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.5"):
        judge(make_history(Noted(np.zeros(1, int), None, {}), Noted(np.zeros(0, int), None, {})), 1.5)


# ---------------------------------------------------------------- the reference


def test_the_reference_is_of_left_out_photographs_one_of_each_group_and_class():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(12, 5)), np.repeat([0, 1], 6)
    groups = np.array([f"{label}{i // 2}" for label in (0, 1) for i in range(6)])
    classifier = FewShotClassifier(None, device="cpu").fit(features, labels, groups)
    reference = classifier.find_drift_reference()
    _, rows = classifier.predict_held_out()
    assert len(reference.noted) == 6
    unit = classifier.support_.content.double().numpy()
    first = [int(np.flatnonzero(rows == r)[0]) for r in rows if r % 2 == 0]
    lengths = np.log(np.linalg.norm(unit, axis=1))
    step = np.std([lengths[rows[i]] for i in first]) / 16
    expected = sorted(round(lengths[rows[i]] / step) for i in first)
    assert sorted(reference.noted.levels["length"].tolist()) == expected
    left = find_centre(unit[groups != "00"], labels[groups != "00"])  # fold 0 holds groups 00 and 10 out
    both = ~np.isin(groups, ["00", "10"])
    left = find_centre(unit[both], labels[both])
    place = [rows[i] for i in first].index(0)
    cosine = unit[0] @ left / np.linalg.norm(unit[0])
    assert reference.noted.levels["centre"][place] == round(cosine / reference.steps["centre"])


def test_a_file_keeps_the_reference_and_one_without_it_still_works(tmp_path, caplog):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(12, 5)) + 3 * np.eye(5)[np.repeat([0, 1, 2], 4)], np.repeat(["x", "y", "z"], 4)
    classifier = FewShotClassifier(None, device="cpu", false_accept_rate=0.2).fit(features, labels)
    classifier.save(tmp_path / "new.fewshot")
    loaded = FewShotClassifier.load(tmp_path / "new.fewshot")
    assert loaded.drift_ is not None
    state = load_checkpoint(tmp_path / "new.fewshot", "fewshot-classifier-1")
    del state["drift"]
    save_checkpoint(tmp_path / "old.fewshot", state, "fewshot-classifier-1")
    old = FewShotClassifier.load(tmp_path / "old.fewshot")
    assert old.drift_ is None
    for one in (loaded, old):
        found, expected = one.find_drift_reference().pack(), classifier.find_drift_reference().pack()
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-5)
    assert not caplog.records
    state["drift"] = load_checkpoint(tmp_path / "new.fewshot", "fewshot-classifier-1")["drift"]
    state["drift"]["centre"] = state["drift"]["centre"][:-1]
    save_checkpoint(tmp_path / "bad.fewshot", state, "fewshot-classifier-1")
    with pytest.raises(ValueError, match="the centre of features of 5 numbers has the shape"):
        FewShotClassifier.load(tmp_path / "bad.fewshot")


# ---------------------------------------------------------------- the record


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


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of three colours, a classifier of them, and photographs asked about: alike, and grey ones."""
    root = tmp_path_factory.mktemp("watched")
    colours = {"red": (200, 60, 60), "green": (60, 180, 60), "blue": (60, 60, 200)}

    def draw(name: str, number: int, mix: float) -> Image.Image:
        rng = seeding.numpy_generator(number, "photograph", name)
        colour = (1 - mix) * np.array(colours[name]) + mix * 128 + rng.normal(0, 12, 3)
        return Image.fromarray((colour + rng.normal(0, 20, (16, 16, 3))).clip(0, 255).astype(np.uint8))

    for name in colours:
        for place, first, n, mix in (("support", 0, 8, 0.0), ("alike", 100, 20, 0.0), ("grey", 200, 20, 0.9)):
            (root / place / name).mkdir(parents=True)
            for number in range(first, first + n):
                draw(name, number, mix).save(root / place / name / f"secret-{number}.png")
    options = {"backbone": "conv4", "pretrained": False, "size_px": 16, "backbone_options": {"n_filters": 8}}
    classifier = FewShotClassifier(**options, device="cpu", false_reject_rate=0.1)
    classifier.fit_folder(root / "support").save(root / "colours.fewshot")
    return root


@pytest.fixture(autouse=True)
def same_order(monkeypatch):
    """Photographs of a call are shuffled; here in the same way each time, so that no test fails by chance."""
    original = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=0: original(seed))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        commands.main([str(word) for word in words])
    return int(ended.value.code or 0)


def ask(folder, place: str, record) -> None:
    commands.execute(
        "predict", [str(folder / place), "--model", str(folder / "colours.fewshot"), "--watch", str(record)]
    )


def test_predict_notes_and_monitor_tells(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    ask(folder, "alike", record)
    assert run("monitor", record) == 0
    said = capsys.readouterr().out
    assert "60 photographs from" in said
    assert "photographs: nothing says that photographs differ" in said
    for _ in range(2):
        ask(folder, "grey", record)
    capsys.readouterr()
    page, summary = tmp_path / "monitor.html", tmp_path / "monitor.json"
    assert run("monitor", record, "--html", page, "--json", summary) == 1
    said = capsys.readouterr().out
    assert "photographs: ALARM at photograph" in said
    told = json.loads(summary.read_text())
    assert told["alarm"] is True
    assert told["n_photographs"] == 180
    assert 40 <= told["tests"]["photographs"]["probably_since_photograph"] <= 64
    assert told["tests"]["photographs"]["photograph"] > 60
    assert sum(told["nearest_class"].values()) == 180
    written = page.read_text()
    assert written.count("<svg") == 7
    assert "default-src 'none'" in written
    text = record.read_text()
    assert "secret" not in text
    assert str(folder) not in text


def test_only_what_came_since_a_time_is_judged(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    ask(folder, "grey", record)
    old = record.read_text().replace('"at":"20', '"at":"19')
    record.write_text(old)
    ask(folder, "alike", record)
    assert run("monitor", record, "--since", "2020-01-01") == 0
    assert "60 photographs from 20" in capsys.readouterr().out
    assert run("monitor", record, "--since", "2200-01-01") == 2
    assert "nothing was asked of the classifier" in capsys.readouterr().err
    assert run("monitor", record, "--since", "soon") == 2
    assert parse_time("2026-11-28T12:00+02:00") == np.datetime64("2026-11-28T10:00")


def test_an_earlier_classifier_in_the_record_is_not_judged(folder, tmp_path, capsys):
    record = tmp_path / "drift.jsonl"
    reference = make_reference()
    DriftRecord(record, reference, CLASSES, "none").append(note(reference, 5))
    ask(folder, "alike", record)
    assert run("monitor", record, "--html", tmp_path / "page.html") == 0
    said = capsys.readouterr().out
    assert "60 photographs from" in said
    assert "5 photographs of 1 other classifier in the same record are not judged" in said


def test_names_of_classes_are_escaped_on_the_page(tmp_path):
    record, reference = tmp_path / "drift.jsonl", make_reference()
    DriftRecord(record, reference, CLASSES, "<none>").append(note(reference, 50))
    assert run("monitor", record, "--html", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "b &amp; &lt;b&gt;" in page
    assert "&lt;none&gt;" in page
    assert "<b>" not in page.split("</header>")[1]
