"""Tables of Markdown."""

from collections.abc import Sequence


def format_markdown(head: Sequence[str], lines: Sequence[Sequence[str]], right: bool = True) -> str:
    """A table of Markdown; `right`: numbers, all columns but the first, stand at the right."""
    rule = ["---", *(["---:" if right else "---"] * (len(head) - 1))]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (head, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (escaped[0], rule, *escaped[1:]))
