"""Tables of methods on several test sets: a column for each, and each method minus ProtoNet on the same network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import hypot

from fewshot.evaluation.record_header import same_episodes
from fewshot.evaluation.report import format_signed_percent
from fewshot.evaluation.statistics import Estimate, compute_paired_difference
from fewshot.reproduction.tables.accuracies import (
    NO_CELL,
    NOT_RUN,
    REFERENCE,
    Row,
    format_markdown,
    format_ours,
    join_distinct,
    shorten,
)

Domains = Mapping[str, Sequence[Row]]  # the rows of each test set


def format_domains(domains: Domains) -> list[str]:
    """For each kind of cell a table of accuracies and, where there is something to compare, one of differences.

    The kinds are told by their place: the first cell of each test set, the second, and so on. A row of another network
    has its name behind the method's, `baseline_lite0`, and is compared with `protonet_lite0`.
    """
    by_name = {test_set: {row.name: row for row in rows} for test_set, rows in domains.items()}
    names = list(dict.fromkeys(name for rows in by_name.values() for name in rows))
    cells = {name: list(rows[0].cells) for name, rows in domains.items() if rows}
    tables = []
    for place in range(max(map(len, cells.values()))):
        columns = {test_set: of_set[place] for test_set, of_set in cells.items() if place < len(of_set)}
        head = [f"{test_set} {shorten(cell)}" for test_set, cell in columns.items()]
        lines = []
        for name in names:
            found = {test_set: by_name[test_set].get(name) for test_set in columns}
            numbers = [format_ours(row, columns[t]) if row else NO_CELL for t, row in found.items()]
            lines.append([_title(found), *numbers, _count_episodes(found, columns)])
        tables.append(format_markdown(["method", *head, "episodes"], lines))
        lines = [line for name in names if (line := _compare(name, by_name, columns))]
        if lines:
            tables.append(format_markdown(["minus ProtoNet", *head, "mean of these"], lines))
    return tables


def find_reference(name: str) -> str:
    """`protonet_lite0` for `baseline_lite0` and `finetune_lora_lite0`: the row of the same network."""
    _, _, network = name.rpartition("_")
    return f"{REFERENCE}_{network}"


def pair(row: Row | None, base: Row | None, cell: str) -> Estimate | None:
    """`row` minus `base` on the episodes that both were measured on; None where these are others.

    Episode i is the same in a longer list: where one has fewer episodes, the first ones of the other are compared.
    """
    mine, theirs = (of.cells.get(cell) if of else None for of in (row, base))
    if not row or not base or not mine or not theirs:
        return None
    n_episodes = min(mine[0].header.n_episodes, theirs[0].header.n_episodes)
    headers = [replace(measured.header, n_episodes=n_episodes) for measured in (mine[0], theirs[0])]
    if not same_episodes(*headers):
        return None
    return compute_paired_difference(row.accuracy(cell)[:n_episodes], base.accuracy(cell)[:n_episodes])


def _compare(name: str, by_name: Mapping[str, Mapping[str, Row]], columns: Mapping[str, str]) -> list[str]:
    """A line of differences, with their mean over test sets; empty for a reference and where none is known."""
    reference = find_reference(name)
    pairs = {test_set: (by_name[test_set].get(name), by_name[test_set].get(reference)) for test_set in columns}
    differences = [pair(row, base, columns[test_set]) for test_set, (row, base) in pairs.items()]
    known = [difference for difference in differences if difference]
    if name == reference or not known:
        return []
    mean = Estimate(sum(d.mean for d in known) / len(known), hypot(*(d.half_width_95 for d in known)) / len(known))
    cells = [format_signed_percent(difference) if difference else NO_CELL for difference in differences]
    return [_title({t: row for t, (row, _) in pairs.items()}), *cells, format_signed_percent(mean)]


def _title(found: Mapping[str, Row | None]) -> str:
    """The name of a row with what its records say of classes that were trained on."""
    return join_distinct(row.title for row in sorted(filter(None, found.values()), key=lambda row: -len(row.mark)))


def _count_episodes(found: Mapping[str, Row | None], columns: Mapping[str, str]) -> str:
    counts = [
        f"{measured.header.n_episodes:,}"
        for test_set, row in found.items()
        if row
        for measured in row.cells.get(columns[test_set], [])
    ]
    return join_distinct(counts) or NOT_RUN
