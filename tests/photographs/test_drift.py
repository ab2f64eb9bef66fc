"""Evidence for a change, and the left-out photographs that it begins with."""

import numpy as np
import pytest

from fewshot import FewShotClassifier
from fewshot.errors import ConfigError
from fewshot.estimator.drift import Noted, find_centre
from fewshot.photographs.drift.evidence import HIGH, LOW, POWERS, bet, join, rank_online
from fewshot.photographs.drift.history import History
from fewshot.photographs.drift.verdict import judge
from fewshot.runtime import seeding
from fewshot.runtime.checkpoint import load_checkpoint, save_checkpoint

CLASSES = ("a", "b", "c")


def make_history(noted: Noted, left_out: Noted, steps: dict[str, float] | None = None) -> History:
    times = np.datetime64("2026-11-28T10:00", "m") + np.arange(len(noted))
    return History("1", CLASSES, "none", steps or dict.fromkeys(noted.levels, 0.1), left_out, noted, times)


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
