"""Formats Markdown tables."""

from collections.abc import Sequence


def format_markdown(head: Sequence[str], lines: Sequence[Sequence[str]], right: bool = True) -> str:
    """Format a Markdown table; `right`: align all columns but the first, which hold numbers, to the right."""
    rule = ["---", *(["---:" if right else "---"] * (len(head) - 1))]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (head, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (escaped[0], rule, *escaped[1:]))
