"""A summary as Markdown, CSV or LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from fewshot.errors import ConfigError
from fewshot.evaluation.report import format_percent, format_signed_percent
from fewshot.evaluation.statistics import Estimate
from fewshot.reproduction.summaries.groups import ABSENT, Both, Column, Line, Summary
from fewshot.reproduction.tables.accuracies import format_markdown, join_distinct
from fewshot.runtime.files import check_writable, write_whole

Format = Literal["markdown", "csv", "latex"]
ENDINGS: dict[str, Format] = {".md": "markdown", ".csv": "csv", ".tex": "latex"}
READING = (
    "Accuracy in %: mean over seeds ± 95% interval over episodes / ± 95% Student-t interval over training seeds (a "
    "dash with one seed). The first says how far other test episodes would move the mean, the second how far another "
    "training would."
)
READING_DIFFERENCES = (
    "Differences in percentage points, paired by episode / paired by seed (a dash where seeds or episodes differ)."
)
FACTS = {
    "episodes": "n_episodes", "seed of the episodes": "seed", "weights selected on": "selected_on",
    "data": "data_fingerprint", "commit": "commit", "precision": "precision", "hardware": "hardware",
}  # of headers  # fmt: skip
TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
       "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--"}  # fmt: skip


def check_summary(path: str | Path | None) -> None:
    """Raise `ConfigError` or `OutputError`, before runs are made, for a file that no summary can be written to."""
    if path is not None and Path(path).suffix not in ENDINGS:
        raise ConfigError(f"{path}: a summary is written to a file that ends in {', '.join(ENDINGS)}")
    check_writable(path)


def write_summary(summary: Summary, path: Path) -> None:
    """Write a summary to a file, whose ending says in which format; `ConfigError` for another ending."""
    check_summary(path)
    write_whole(path, format_summary(summary, ENDINGS[path.suffix]) + "\n")


def format_summary(summary: Summary, form: Format) -> str:
    """Format the tables of a summary, and what they describe."""
    return {"markdown": _format_markdown, "csv": _format_csv, "latex": _format_latex}[form](summary)


def _list_accuracies(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """List head and lines of the table of accuracies."""
    head = [*_list_heads(summary), "seeds", *map(_name_column, summary.columns)]
    lines = []
    for line in summary.lines:
        seeds = " ".join(map(str, line.seeds))
        cells = [_format_both(line.estimate(column), format_percent) for column in summary.columns]
        lines.append([*_list_values(summary, line), seeds, *cells])
    return head, lines


def _list_differences(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """List head and lines of the table of differences; no lines if there is nothing to compare."""
    head = [*_list_heads(summary), *map(_name_column, summary.columns)]
    lines = []
    for line in summary.others:
        both = [line.subtract(summary.reference, column) for column in summary.columns]
        lines.append([*_list_values(summary, line), *(_format_both(one, format_signed_percent) for one in both)])
    return head, lines


def _format_markdown(summary: Summary) -> str:
    parts = [format_markdown(*_list_accuracies(summary)), READING]
    head, lines = _list_differences(summary)
    if lines:
        parts += [f"Minus {summary.reference.title}:", format_markdown(head, lines), READING_DIFFERENCES]
    return "\n\n".join([*parts, _format_facts(summary)])


def _format_latex(summary: Summary) -> str:
    parts = [_format_tabular(*_list_accuracies(summary)), f"% {READING}"]
    head, lines = _list_differences(summary)
    if lines:
        title = f"% Minus {summary.reference.title}. {READING_DIFFERENCES}"
        parts += [title, _format_tabular(head, lines)]
    return "\n".join(["% \\usepackage{booktabs}", *parts, f"% {_format_facts(summary)}"])


def _format_tabular(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [" & ".join("".join(TEX.get(c, c) for c in cell) for cell in line) + r" \\" for line in (head, *lines)]
    body = [r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{'l' * len(head)}}}", *body, r"\end{tabular}"])


def _format_csv(summary: Summary) -> str:
    """Format a row for each line and column of the table, in percent; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [
        "test_set", "cell", "mean", "half_width_95_episodes", "half_width_95_seeds", "n_seeds", "minus",
        "difference", "difference_half_width_95_episodes", "difference_half_width_95_seeds",
    ]  # fmt: skip
    writer.writerow([*summary.options, "row", *heads, *(name.replace(" ", "_") for name in ("dataset", *FACTS))])
    for line in summary.lines:
        for column in summary.columns:
            mean = line.estimate(column)
            if mean is None:
                continue
            other = line.subtract(summary.reference, column) if line is not summary.reference else None
            headers = [measured.header for measured in line.measured[column].values()]
            facts = [join_distinct(f"{h.dataset}/{h.split}" for h in headers)]
            facts += [join_distinct(h.value(key) for h in headers) for key in FACTS.values()]
            writer.writerow(
                [
                    *line.values.values(), line.row, *column, *_list_numbers(mean), len(headers),
                    summary.reference.title if other else "", *_list_numbers(other), *facts,
                ]
            )  # fmt: skip
    return text.getvalue().rstrip("\n")


def _list_numbers(both: Both | None) -> list[str]:
    """List the mean and its two half-widths, in percent."""
    if both is None:
        return ["", "", ""]
    halves = [both.episodes.half_width_95, both.seeds.half_width_95 if both.seeds else None]
    return ["" if value is None else f"{100 * value:.4f}" for value in (both.episodes.mean, *halves)]


def _format_both(both: Both | None, write: Callable[[Estimate], str]) -> str:
    """Format a mean and its two half-widths: `97.76 ± 0.22 / ± 0.31`."""
    if both is None:
        return ABSENT
    return f"{write(both.episodes)} / {f'± {100 * both.seeds.half_width_95:.2f}' if both.seeds else ABSENT}"


def _list_heads(summary: Summary) -> list[str]:
    return [*summary.options, *(["row"] if _has_rows(summary) else [])] or ["runs"]


def _list_values(summary: Summary, line: Line) -> list[str]:
    row = [f"{line.row or 'own'}"] if _has_rows(summary) else []
    return [*line.values.values(), *row] or [line.title]


def _has_rows(summary: Summary) -> bool:
    return len({line.row for line in summary.lines}) > 1


def _name_column(column: Column) -> str:
    test_set, cell = column
    return f"{test_set}: {cell}" if test_set else cell


def _format_facts(summary: Summary) -> str:
    """Format in a line what all numbers have in common."""
    headers = [header for line in summary.lines for header in line.headers]
    sets = join_distinct(f"{header.dataset}/{header.split}" for header in headers)
    facts = (f"{name} {join_distinct(h.value(key) for h in headers)}" for name, key in FACTS.items())
    queries = join_distinct(header.spec["n_query"] for header in headers)
    kinds = join_distinct("transductive" if header.transductive else "inductive" for header in headers)
    return f"Test set {sets}; {queries} queries a class; {kinds}; {'; '.join(facts)}."
