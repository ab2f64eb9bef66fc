"""Writes what a drift record tells as one HTML page."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from fewshot.estimator.drift import MEASURES
from fewshot.photographs.drift.history import History
from fewshot.photographs.drift.verdict import Verdict
from fewshot.photographs.inspection.intervals import compute_wilson_interval
from fewshot.photographs.pages import html
from fewshot.photographs.pages.drift_charts import draw_evidence, draw_shares, draw_windows
from fewshot.photographs.pages.html import escape
from fewshot.runtime.counts import format_count
from fewshot.runtime.files import write_whole

MOST_WINDOWS, LEAST_IN_WINDOW = 30, 20
SHOWN_CLASSES = 8  # the most frequent ones; the others together
TITLES = {
    "known": "How well photographs fit the classes", "sure": "Probability of the likeliest class",
    "length": "Length of the features", "centre": "Likeness to what was learned from",
}  # fmt: skip


def write_monitor(
    path: str | Path, name: str, verdict: Verdict, sentences: Sequence[str], notes: Sequence[str]
) -> None:
    """Write one self-contained HTML file, or nothing if writing fails.

    `name`: of the record. `sentences`: what the tests say; `notes`: what else is to be known.
    """
    history = verdict.history
    edges = _choose_edges(len(history))
    title = f"{name}: {format_count(len(history), 'photograph')}"
    parts = [f"<header><h1>{escape(title)}</h1>{_write_tiles(verdict)}</header>"]
    kind = "error" if verdict.is_alarm else "note"
    said = "".join(f"<p>{escape(sentence[:1].upper() + sentence[1:])}.</p>" for sentence in (*sentences, *notes))
    parts.append(f'<section class="finding {kind}"><p class="kind">what the test says</p>{said}</section>')
    parts.append(_write_evidence(verdict))
    charts = [_write_refusals(history, edges), _write_shares(history, edges)]
    charts += [_write_measure(history, measure, edges) for measure in MEASURES if measure in history.steps]
    parts.append(f'<div class="overview">{"".join(charts)}</div>')
    facts = html.write_facts([
        ("classifier", history.id), ("classes", len(history.classes)), ("left out at fit", len(history.left_out)),
        ("from", str(history.times[0]).replace("T", " ")), ("to", str(history.times[-1]).replace("T", " ")),
        ("times are", "UTC"),
    ])  # fmt: skip
    body = "<main>\n" + "\n".join(parts) + f"\n<footer>{facts}</footer></main>"
    write_whole(path, html.write_page(title, body))


def _write_tiles(verdict: Verdict) -> str:
    figures = []
    for name, test in verdict.tests.items():
        figures.append(("alarm" if test.alarm is not None else "no alarm", name))
    refused = verdict.history.noted.refused
    if refused is not None:
        figures.append((f"{refused.mean():.0%}", "refused"))
    return html.write_tiles([*figures, (f"{len(verdict.history):,}", "photographs")])


def _write_evidence(verdict: Verdict) -> str:
    tests = verdict.tests
    lines = [(name, test.log_wealth / np.log(10)) for name, test in tests.items()]
    bound = next(iter(tests.values())).bound / float(np.log(10))
    chart = draw_evidence(lines, bound, [test.alarm for test in tests.values()])
    dashed = "; dashed: that refusals rise" if len(tests) > 1 else ""
    return (
        f"<section><h2>Evidence</h2>{chart}<p class=note>The line: that photographs differ from those left out at fit"
        f"{dashed}; on a logarithmic scale. Were nothing changed, it would ever reach the alarm with a chance of at "
        f"most {verdict.rate:.2g}.</p></section>"
    )


def _write_refusals(history: History, edges: np.ndarray) -> str:
    refused, before = history.noted.refused, history.left_out.refused
    if refused is None or before is None:
        return ""
    bands = []
    for part in _split(refused.astype(float), edges):
        low, high = compute_wilson_interval(float(part.mean()), len(part))
        bands.append((low, float(part.mean()), high))
    share = float(before.mean()) if len(before) else 0.0
    reference = [*compute_wilson_interval(share, len(before)), share] if len(before) else []
    chart = draw_windows(edges, np.array(bands), sorted(reference), "Share refused in each window", True)
    return f"<section><h2>Refused</h2>{chart}{_explain('share with its 95% interval', history)}</section>"


def _write_measure(history: History, name: str, edges: np.ndarray) -> str:
    step = history.steps[name]
    bands = np.array(
        [np.quantile(part * step, [0.25, 0.5, 0.75]) for part in _split(history.noted.levels[name], edges)]
    )
    before = history.left_out.levels[name] * step
    reference = np.quantile(before, [0.25, 0.5, 0.75]).tolist() if len(before) else []
    chart = draw_windows(edges, bands, reference, f"{TITLES[name]} in each window", name == "sure")
    words = f"{MEASURES[name]}; median and the middle half"
    return f"<section><h2>{escape(TITLES[name])}</h2>{chart}{_explain(words, history)}</section>"


def _write_shares(history: History, edges: np.ndarray) -> str:
    nearest, refused = history.noted.nearest, history.noted.refused
    counts = np.bincount(nearest, minlength=len(history.classes))
    shown = np.sort(np.argsort(-counts, kind="stable")[: SHOWN_CLASSES - 1])
    answer = np.full(len(history.classes), len(shown))
    answer[shown] = np.arange(len(shown))
    of_each = answer[nearest] if refused is None else np.where(refused, len(shown) + 1, answer[nearest])
    names = [*(history.classes[c] for c in shown), "other classes", history.unknown]
    shares = np.array([np.bincount(part, minlength=len(names)) / len(part) for part in _split(of_each, edges)])
    present = np.flatnonzero(shares.any(0))
    kinds = [*(f"p{number}" for number in range(len(shown))), "p7", "none"]
    drawn = [(names[p], kinds[p]) for p in present]
    chart = draw_shares(edges, shares[:, present], drawn, "Shares of answers in each window")
    keys = "".join(f'<span><i class="key {kind}"></i>{escape(name)}</span>' for name, kind in drawn)
    note = "<p class=note>Drawn only: how often each class comes raises no alarm.</p>"
    return f'<section><h2>Answers</h2>{chart}<p class="keys-of">{keys}</p>{note}</section>'


def _explain(words: str, history: History) -> str:
    behind = "" if not len(history.left_out) else " Behind, dashed: the same of photographs left out at fit."
    return f"<p class=note>{escape(words[:1].upper() + words[1:])}, in windows of photographs.{behind}</p>"


def _choose_edges(n: int) -> np.ndarray:
    n_windows = int(np.clip(n // LEAST_IN_WINDOW, 1, MOST_WINDOWS))
    return np.linspace(0, n, n_windows + 1).round().astype(int)


def _split(values: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    return [values[a:b] for a, b in pairwise(edges)]
