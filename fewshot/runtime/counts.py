"""Counts of things in messages, with the noun in its right number."""


def format_count(n: int, one: str, many: str | None = None) -> str:
    """`n` and the words that follow it: `one` for 1, else `many` (default: `one` with an s)."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
