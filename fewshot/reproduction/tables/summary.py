"""Formats the main table, with a line for each method, and the short table, with the best method of each kind.

Both come from stored results and published numbers.
"""

from collections.abc import Mapping, Sequence

from fewshot.errors import DataError
from fewshot.evaluation.report import format_percent
from fewshot.reproduction.tables.accuracies import NO_CELL, NOT_RUN, Row, format_markdown, shorten
from fewshot.reproduction.tables.published import Published, parse_number

COLUMNS = {
    "omniglot": ("Omniglot", ("5w1s", "5w5s", "20w1s", "20w5s")),
    "cifar_fs": ("CIFAR-FS", ("5w1s", "5w5s")),
    "coins": ("coins", ("5w1s", "5w4s")),
}  # title and cells of each data set
LINES = {
    "ProtoNet": "protonet",
    "Matching": "matching",
    "R2D2": "r2d2",
    "Meta-Baseline": "meta-baseline",
    "Classifier-Baseline": "classifier-baseline",
    "SimpleShot": "simpleshot",
    "Relation": "relation",
    "Baseline": "baseline",
    "Baseline++": "baseline++",
    "MAML": "maml",
    "MAML, transductive": "maml, transductive",
    "MAML, published protocol": "maml, published protocol",
    "ANIL": "anil",
    "ANIL, support statistics": "anil, support statistics",
    "ANIL, transductive": "anil, transductive",
}  # for each line, the name of its row in the tables of every data set
RERUN_LINE, RERUN_ROW = "*best independent re-run of ProtoNet*", "protonet"
DIGITS = 1
SHORT_COLUMNS = {"omniglot": "20w1s", "cifar_fs": "5w5s", "coins": "5w4s"}  # the short table's cell of each data set
KINDS = {
    "compares features": ("protonet", "matching", "r2d2", "relation", "meta-baseline"),
    "adapts its weights": ("maml", "anil"),
    "new head on a classifier": ("classifier-baseline", "simpleshot", "baseline", "baseline++"),
}  # for each line of the short table, the rows of which it shows the best; all are inductive


def format_summary(rows: Mapping[str, Sequence[Row]], published: Mapping[str, Published]) -> str:
    """Format the main table in Markdown; a dash for cells that no recipe measures and numbers that are not published.

    Args:
        rows: of each data set of `COLUMNS`, the rows of its tables.
        published: of each data set, the numbers that `published.read` gives.

    Raises:
        DataError: a line has a row in no data set.
    """
    by_name = {dataset: {row.name: row for row in rows[dataset]} for dataset in COLUMNS}
    cells = [(dataset, cell) for dataset, (_, of_set) in COLUMNS.items() for cell in of_set]
    head = ["", *(f"{title} {c}" if c == of_set[0] else c for title, of_set in COLUMNS.values() for c in of_set)]
    lines = []
    for title, name in LINES.items():
        if not any(name in of_set for of_set in by_name.values()):
            raise DataError(f"the main table's line {title!r} shows {name!r}, which is a row of no data set")
        lines.append([title, *(_format_ours(by_name[dataset].get(name), cell) for dataset, cell in cells)])
    lines.append([RERUN_LINE, *(_format_rerun(published[dataset], cell) for dataset, cell in cells)])
    return format_markdown(head, lines)


def format_best_of_kind(rows: Mapping[str, Sequence[Row]], published: Mapping[str, Published]) -> str:
    """Format the short table in Markdown: for each kind of method, the best one on each data set, with its name.

    Args:
        rows: of each data set of `SHORT_COLUMNS`, the rows of its tables.
        published: of each data set, the numbers that `published.read` gives.
    """
    head = ["", *(f"{COLUMNS[dataset][0]} {cell}" for dataset, cell in SHORT_COLUMNS.items())]
    lines = [
        [title, *(_format_best(rows[dataset], names, cell) for dataset, cell in SHORT_COLUMNS.items())]
        for title, names in KINDS.items()
    ]
    reruns = (_format_rerun(published[dataset], cell) for dataset, cell in SHORT_COLUMNS.items())
    return format_markdown(head, [*lines, [RERUN_LINE, *reruns]])


def _format_best(rows: Sequence[Row], names: Sequence[str], cell: str) -> str:
    titles = {name: title for title, name in LINES.items()}
    measured = [
        (row.estimate(full).mean, f"{format_percent(row.estimate(full), DIGITS)} {titles[row.name]}{row.mark}")
        for row in rows
        for full in row.cells
        if row.name in names and shorten(full) == cell and row.cells[full]
    ]
    return max(measured)[1] if measured else NOT_RUN


def _format_ours(row: Row | None, cell: str) -> str:
    full = next((c for c in row.cells if shorten(c) == cell), None) if row else None
    if row is None or full is None:
        return NO_CELL
    if not row.cells[full]:
        return NOT_RUN
    return format_percent(row.estimate(full), DIGITS) + row.mark


def _format_rerun(published: Published, cell: str) -> str:
    numbers = published.get(RERUN_ROW, {}).get("re-run", {})
    return f"*{100 * parse_number(str(numbers[cell])).mean:.{DIGITS}f}*" if cell in numbers else NO_CELL
