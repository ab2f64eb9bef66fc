"""Prints and writes a comparison: summary, tables and figure."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot.evaluation.record_header import RecordHeader
from fewshot.evaluation.report import format_facts, format_percent, format_signed_percent
from fewshot.evaluation.statistics import Estimate
from fewshot.reproduction.comparison.figure import draw
from fewshot.reproduction.comparison.paired import SIGNIFICANCE, ClassDifference, Comparison
from fewshot.runtime.files import write_whole
from fewshot.runtime.provenance import collect_provenance
from fewshot.sampling.episodes import EpisodeSpec

N_LISTED = 5  # printed classes with the largest differences in each direction
COLUMNS = (
    "class", "class_id", "n_episodes", "accuracy_a", "accuracy_b", "difference", "difference_half_width_95",
    "episodes_a_better", "episodes_b_better", "episodes_tied", "sign_test_p", "holm_p", "significant",
)  # fmt: skip


def format_summary(comparison: Comparison) -> str:
    """Format the comparison as one screen of text, accuracies in percent."""
    both = (comparison.a, comparison.b)
    width = max(map(len, comparison.names))
    lines = [
        f"{letter}  {name:{width}}  {format_percent(m.records.estimate):>13}   "
        f"{_describe(m.records.header)}{m.records.mark}"
        for letter, name, m in zip("AB", comparison.names, both, strict=True)
    ]
    difference = format_signed_percent(comparison.difference)
    lines += [
        f"{'A − B':{width + 3}}  {difference:>13}   paired by episode; {_format_unpaired(comparison)}",
        "",
        f"Sign test over episodes: A is better in {comparison.sign.a_better:,}, B in {comparison.sign.b_better:,}; "
        f"{comparison.sign.ties:,} ties are left out; two-sided p = {comparison.sign.p_value:.2g}",
        *_list_caveats(comparison),
        "",
        *_format_classes(comparison),
        "",
        *(f"{letter}: {format_facts(m.records)}" for letter, m in zip("AB", both, strict=True)),
    ]
    return "\n".join(lines)


def write(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write records, tables and figure into `folder`; returns the files."""
    folder = Path(folder)
    paths = [folder / name for name in ("a.jsonl", "b.jsonl", "comparison.json", "per_class.csv")]
    comparison.a.records.write(paths[0])
    comparison.b.records.write(paths[1])
    write_whole(paths[2], json.dumps(as_dict(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    table = io.StringIO(newline="")
    csv.writer(table).writerows([COLUMNS, *map(_make_row, comparison.classes)])
    write_whole(paths[3], table.getvalue())
    return paths + draw(comparison, folder)


def choose_folder(comparison: Comparison) -> Path:
    """`compare/A-vs-B/CELL` in the folder of the first run, another one for each cell, data set and seed."""
    header = comparison.a.records.header
    cell = f"{header.dataset}-{header.split}-{EpisodeSpec(**header.spec)}-seed{header.seed}"
    pair = "-vs-".join(comparison.names).replace("/", "-")
    return Path(header.run or ".") / "compare" / pair / cell.replace(",", "").replace(" ", "-")


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Convert the comparison to plain values; accuracies are fractions, null is infinite or undefined."""
    runs = {
        letter: {"name": name, "accuracy": _convert_estimate(m.records.estimate), "header": m.records.header.as_dict()}
        for letter, name, m in zip("ab", comparison.names, (comparison.a, comparison.b), strict=True)
    }
    return {
        **runs,
        "difference": _convert_estimate(comparison.difference),
        "unpaired_half_width_95": comparison.unpaired_half_width_95,
        "correlation": comparison.correlation,
        "sign_test": comparison.sign._asdict(),
        "significance": SIGNIFICANCE,
        "classes": [
            {name: value if not isinstance(value, float) else _drop_infinite(value) for name, value in
             zip(COLUMNS, _make_row(c), strict=True)} for c in comparison.classes
        ],
        "unseen_classes": comparison.unseen,
        **collect_provenance(),
    }  # fmt: skip


def _make_row(c: ClassDifference) -> tuple[object, ...]:
    """The values of `COLUMNS`."""
    return (
        c.name, c.class_id, c.n_episodes, c.accuracy_a.mean, c.accuracy_b.mean, *c.difference,
        *c.sign, c.holm_p, c.significant,
    )  # fmt: skip


def _describe(header: RecordHeader) -> str:
    kind = "transductive" if header.transductive else "inductive"
    return f"{header.method}, {kind}, weights selected on {header.value('selected_on')}"


def _format_unpaired(comparison: Comparison) -> str:
    paired, unpaired = comparison.difference.half_width_95, comparison.unpaired_half_width_95
    text = f"unpaired it would be ± {100 * unpaired:.2f}"
    if paired > 0:
        text += f", {unpaired / paired:.2f} times as wide"
    r = comparison.correlation
    return text + (f"; correlation {r:.2f}" if r is not None else "; one accuracy never changes, so no correlation")


def _list_caveats(comparison: Comparison) -> list[str]:
    """List in sentences how the two runs differ apart from the methods."""
    a, b = comparison.a.records.header, comparison.b.records.header
    lines = []
    if a.transductive != b.transductive:
        which = "A" if a.transductive else "B"
        lines.append(f"{which} is transductive: it saw all queries of an episode at once, the other one by one")
    elif a.transductive:
        lines.append("both are transductive: they saw all queries of an episode at once")
    if a.data_fingerprint != b.data_fingerprint:
        options = [(header.config or {}).get("dataset_options", "unknown") for header in (a, b)]
        lines.append(f"the images are the same, prepared otherwise: {options[0]} for A, {options[1]} for B")
    if a.weights == b.weights:
        lines.append("A and B have the same weights")
    return [f"Note: {line}." for line in lines]


def _format_classes(comparison: Comparison) -> list[str]:
    """Format the classes with the largest differences in each direction."""
    classes = comparison.classes
    counts = [c.n_episodes for c in classes]
    better = [sum(c.significant and sign * c.difference.mean > 0 for c in classes) for sign in (1, -1)]
    lines = [
        f"Classes: {len(classes)} occur, each in {min(counts)} to {max(counts)} episodes"
        + (f"; {len(comparison.unseen)} do not occur" if comparison.unseen else ""),
        f"after Holm at {SIGNIFICANCE:.0%} (sign test): A is better on {better[0]}, B on {better[1]}",
    ]
    needed = math.ceil(1 + math.log2(len(classes) / SIGNIFICANCE))  # 2 * 0.5**needed * n_classes <= SIGNIFICANCE
    if max(counts) < needed:
        lines.append(
            f"none of {len(classes)} can stand out with so few: it takes {needed} episodes that all speak for one "
            "of the two; ask for more --n_episodes"
        )
    best = [c for c in classes[:N_LISTED] if c.difference.mean > 0]
    worst = [c for c in classes[::-1][:N_LISTED] if c.difference.mean < 0]
    for title, chosen in (("A is better by most", best), ("B is better by most", worst)):
        lines += ["", *_format_class_table(title, chosen)] if chosen else []
    return lines


def _format_class_table(title: str, classes: Sequence[ClassDifference]) -> list[str]:
    head = (title, "episodes", "A", "B", "A − B", "p (Holm)")
    rows = [head] + [
        (c.name, f"{c.n_episodes}", f"{100 * c.accuracy_a.mean:.1f}", f"{100 * c.accuracy_b.mean:.1f}",
         format_signed_percent(c.difference).replace("inf", "∞"), f"{c.holm_p:.2g}{' *' if c.significant else '  '}")
        for c in classes
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def _convert_estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": estimate.mean, "half_width_95": _drop_infinite(estimate.half_width_95)}


def _drop_infinite(value: float) -> float | None:
    return value if math.isfinite(value) else None
