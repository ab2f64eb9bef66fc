"""What accuracy owes to groups (tracks, photographs) on both sides of an episode: rows with and without them."""

from collections.abc import Sequence
from dataclasses import replace

from fewshot.evaluation.record_header import RecordHeader, same_episodes
from fewshot.evaluation.report import format_signed_percent
from fewshot.evaluation.statistics import Estimate, compute_paired_difference
from fewshot.reproduction.tables.accuracies import NO_CELL, Row, format_markdown, format_ours, shorten


def find_pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Find each row with the variant that measures the same classes with disjoint groups; the variant stands second."""
    named = {row.name: row for row in rows}
    candidates = [(named.get(row.name.rpartition(", ")[0]), row) for row in rows]
    return [
        (shared, apart)
        for shared, apart in candidates
        if shared and any(compute_leak(shared, apart, cell) for cell in apart.cells)
    ]


def compute_leak(shared: Row, apart: Row, cell: str) -> Estimate | None:
    """Compute how much accuracy is lost when groups are kept apart; None for any other two measurements.

    Episode i of a seed has the same classes with and without `disjoint_groups`, only other images of them, so the
    difference is taken episode by episode: its interval leaves out how hard the classes are.
    """
    mine, theirs = shared.cells.get(cell), apart.cells.get(cell)
    if not mine or not theirs or not _have_same_classes(mine[0].header, theirs[0].header):
        return None
    return compute_paired_difference(shared.accuracy(cell), apart.accuracy(cell))


def _have_same_classes(shared: RecordHeader, apart: RecordHeader) -> bool:
    """Whether two measurements differ in nothing but that the second keeps groups apart."""
    specs = [{**header.spec, "disjoint_groups": None} for header in (shared, apart)]
    alike = same_episodes(replace(shared, spec=specs[0]), replace(apart, spec=specs[1]))
    return alike and not shared.spec.get("disjoint_groups") and bool(apart.spec.get("disjoint_groups"))


def format_leak(rows: Sequence[Row], cells: Sequence[str]) -> str:
    """Format a table of rows with shared groups, with disjoint groups, and the difference; empty if there are none."""
    head = ["method", *(f"{shorten(cell)}{what}" for cell in cells for what in (", shared", ", apart", ", leak"))]
    lines = []
    for shared, apart in find_pairs(rows):
        line = [shared.title]
        for cell in cells:
            leak = compute_leak(shared, apart, cell)
            line += [format_ours(shared, cell), format_ours(apart, cell)]
            line.append(format_signed_percent(leak) if leak else NO_CELL)
        lines.append(line)
    return format_markdown(head, lines) if lines else ""
