"""Counts confusions between classes, and writes them as an HTML table."""

from collections.abc import Sequence

import numpy as np

from fewshot.photographs.pages.html import escape

MAX_CLASSES = 30  # a larger matrix is unreadable; its most frequent confusions are listed instead
MAX_PAIRS = 40
STRONG = 0.85  # share of a row from which the shade is so dark that the number must be white


def count_confusions(
    truth: Sequence[str], answer: Sequence[str], names: Sequence[str]
) -> tuple[list[str], list[str], np.ndarray]:
    """Count how often each true class got each answer: row names, column names, and counts (n_rows, n_columns).

    Rows and columns follow the order of `names`; other names that occur come last.
    """
    rows = [n for n in names if n in set(truth)] + sorted(set(truth) - set(names))
    columns = [n for n in names if n in {*truth, *answer}] + sorted(set(answer) - set(names))
    counts = np.zeros((len(rows), len(columns)), np.int64)
    at = ({n: i for i, n in enumerate(rows)}, {n: i for i, n in enumerate(columns)})
    for t, a in zip(truth, answer, strict=True):
        counts[at[0][t], at[1][a]] += 1
    return rows, columns, counts


def write_confusion_table(rows: Sequence[str], columns: Sequence[str], counts: np.ndarray) -> str:
    """Write a shaded matrix as HTML, or a list of the most frequent confusions if there are too many classes."""
    if max(len(rows), len(columns)) > MAX_CLASSES:
        return _write_pairs(rows, columns, counts)
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in columns)
    lines = []
    for name, line in zip(rows, counts, strict=True):
        total = max(1, line.sum())
        cells = "".join(_write_cell(name, column, int(n), n / total) for column, n in zip(columns, line, strict=True))
        right = line[columns.index(name)] / total if name in columns else 0.0
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="sum">{right:.0%}</td></tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="confusion"><caption>Rows: the true class. Columns: the answer. '
        "Shading: share of the row.</caption>"
        f'<thead><tr><td></td>{head}<th scope="col"><span>right</span></th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _write_cell(row: str, column: str, n: int, share: float) -> str:
    kind = "hit" if row == column else "miss"
    strong = " strong" if share > STRONG else ""
    label = f"{row} answered as {column}: {n}"
    number = n if n else ""
    return f'<td class="{kind}{strong}" style="--s:{share:.3f}" title="{escape(label)}">{number}</td>'


def _write_pairs(rows: Sequence[str], columns: Sequence[str], counts: np.ndarray) -> str:
    wrong = [
        (int(counts[i, j]), row, column)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if row != column and counts[i, j]
    ]
    wrong.sort(key=lambda item: (-item[0], item[1], item[2]))
    lines = "".join(f"<tr><td>{escape(r)}</td><td>{escape(c)}</td><td>{n}</td></tr>" for n, r, c in wrong[:MAX_PAIRS])
    return (
        f'<table class="list"><caption>{len(rows)} classes are too many for a matrix: the most frequent confusions.'
        "</caption><thead><tr><th>true class</th><th>answer</th><th>times</th></tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )
