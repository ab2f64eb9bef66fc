"""The work of `fewshot monitor`: reads a drift record, and says, draws and writes what it tells."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.config import MonitorConfig
from fewshot.errors import DataError
from fewshot.estimator.drift import MEASURES
from fewshot.photographs.drift.history import History, parse_time, read_histories
from fewshot.photographs.drift.verdict import REFUSED, Test, Verdict, judge
from fewshot.photographs.pages.monitor_page import write_monitor
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import check_writable, write_whole
from fewshot.runtime.terminal import visible_text

CHANGED = {
    "photographs": "photographs differ from those left out at fit",
    "refusals": "more photographs are refused than of those left out at fit",
}
UNCHANGED = {
    "photographs": "nothing says that photographs differ from those left out at fit",
    "refusals": "nothing says that refusals rise",
}
WORDS = {
    "known": "they fit the classes less well", "length": "their features are of another length",
    "centre": "their features point elsewhere", REFUSED: "refusals",
}  # fmt: skip


def monitor(config: MonitorConfig) -> Verdict:
    """Judge the photographs of the classifier that was asked last, print the verdict, and write what is asked for."""
    check_writable(config.html, config.json, inputs=[config.record])
    histories, n_bad = read_histories(config.record)
    history = histories[-1]
    if config.since is not None:
        history = history.since(parse_time(config.since))
    if not len(history):
        when = "" if config.since is None else f" since {config.since}"
        raise DataError(f"{config.record}: nothing was asked of the classifier {history.id}{when}")
    verdict = judge(history, config.false_alarm_rate)
    notes = describe_record(histories, n_bad)
    for line in describe_verdict(verdict):
        print(line)
    for line in notes:
        print(line)
    if config.html:
        write_monitor(config.html, Path(config.record).name, verdict, describe_verdict(verdict), notes)
    if config.json:
        write_whole(config.json, json.dumps(summarise(verdict, n_bad), indent=1, ensure_ascii=False) + "\n")
    if config.html or config.json:
        print(f"written: {', '.join(path for path in (config.html, config.json) if path)}")
    return verdict


def describe_verdict(verdict: Verdict) -> list[str]:
    """Describe what the tests say, a sentence each."""
    history = verdict.history
    n = format_count(len(history), "photograph")
    lines = [f"{n} from {_format_time(history, 0)} to {_format_time(history, -1)}"]
    for name, test in verdict.tests.items():
        alarm, since = test.alarm, test.since
        if alarm is None or since is None:
            lines.append(f"{name}: {UNCHANGED[name]} ({_describe_evidence(test, float(test.log_wealth[-1]))})")
            continue
        how = f" ({WORDS[test.leading]})" if name == "photographs" else ""
        lines.append(
            f"{name}: ALARM at photograph {alarm + 1:,}, {_format_time(history, alarm)}: {CHANGED[name]}{how}, "
            f"probably from photograph {since + 1:,} on, {_format_time(history, since)} "
            f"({_describe_evidence(test, float(test.log_wealth[alarm]))})"
        )
    if history.noted.refused is not None and history.left_out.refused is not None and len(history.left_out):
        now, before = history.noted.refused, history.left_out.refused
        lines.append(f"refused: {now.mean():.1%}, of those left out at fit {before.mean():.1%} of {len(before):,}")
    lines.append(
        f"chance that an alarm is ever raised although nothing has changed: at most {verdict.rate:.2g}, as long as "
        "photographs come in any order, each of another thing"
    )
    return lines


def describe_record(histories: list[History], n_bad: int) -> list[str]:
    """Describe what of the record is not judged."""
    lines = []
    if len(histories[-1].left_out) < 10:
        count = format_count(len(histories[-1].left_out), "photograph was", "photographs were")
        lines.append(f"only {count} left out at fit: a change from the first photograph on is hardly seen")
    if len(histories) > 1:
        others = format_count(len(histories) - 1, "other classifier")
        lines.append(f"{sum(map(len, histories[:-1])):,} photographs of {others} in the same record are not judged")
    if n_bad:
        lines.append(f"{format_count(n_bad, 'line')} of the record cannot be read: cut short, or not of this program")
    return lines


def summarise(verdict: Verdict, n_bad: int) -> dict[str, Any]:
    """Summarise a verdict for a JSON file."""
    history = verdict.history
    noted = history.noted
    counts = np.bincount(noted.nearest, minlength=len(history.classes))
    return {
        "alarm": verdict.is_alarm,
        "false_alarm_rate": verdict.rate,
        "classifier": history.id,
        "n_photographs": len(history),
        "from": _format_time(history, 0),
        "to": _format_time(history, -1),
        "n_left_out": len(history.left_out),
        "n_unreadable_lines": n_bad,
        "tests": {name: _summarise_test(history, test) for name, test in verdict.tests.items()},
        "refused": None if noted.refused is None else float(noted.refused.mean()),
        "nearest_class": {name: int(n) for name, n in zip(history.classes, counts, strict=True)},
        "medians": {
            name: {
                "now": float(np.median(noted.levels[name]) * step),
                "left_out": float(np.median(history.left_out.levels[name]) * step) if len(history.left_out) else None,
                "meaning": MEASURES[name],
            }
            for name, step in history.steps.items()
        },
    }


def _summarise_test(history: History, test: Test) -> dict[str, Any]:
    place = -1 if test.alarm is None else test.alarm
    return {
        "alarm": test.alarm is not None,
        "photograph": None if test.alarm is None else test.alarm + 1,
        "time": None if test.alarm is None else _format_time(history, test.alarm),
        "probably_since_photograph": None if test.since is None else test.since + 1,
        "leading": test.leading,
        "log10_evidence": round(float(test.log_wealth[place]) / float(np.log(10)), 3),
        "log10_bound": round(test.bound / float(np.log(10)), 3),
    }


def _describe_evidence(test: Test, log_wealth: float) -> str:
    return f"evidence {np.exp(min(log_wealth, 200)):,.3g}, alarm from {np.exp(test.bound):,.3g} on"


def _format_time(history: History, number: int) -> str:
    return visible_text(str(history.times[number]).replace("T", " "))
