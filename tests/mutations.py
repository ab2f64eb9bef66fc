"""Seeded mutations of files: other types and numbers, keys that are missing, extra or said twice, cut and odd bytes."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [
    None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, 2**63, -(2**63), "", "x" * 1000, "../../x",
    "a\0b", [], {}, [[[[]]]], [1, 2], [None], {"a": {"b": 1}}, "\ud800", "cuda:9", "0", [float("nan")], [10**400 // 7],
]  # fmt: skip


def list_places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The path of keys to each value that a nested one holds."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from list_places(value[key], (*place, key))


def change_value(value: Any, draw: random.Random) -> Any:
    """A copy with one value changed, removed or added, anywhere in it."""
    changed = copy.deepcopy(value)
    place = draw.choice(list(list_places(value)))
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    kind = draw.random()
    if kind < 0.2:
        del parent[place[-1]]
    elif kind < 0.3 and isinstance(parent, dict):
        parent[draw.choice(["extra", "", "sed", "\n"])] = draw.choice(ODD)
    else:
        parent[place[-1]] = draw.choice(ODD)
    return changed


def spoil_text(text: str, draw: random.Random) -> bytes:
    """The bytes of a text that is cut, flipped, nested deeply, in another encoding, or says things twice."""
    data, at = text.encode(), draw.randrange(len(text))
    flipped = bytearray(data)
    for _ in range(draw.choice([1, 1, 3, 20])):
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    digits = [i for i, c in enumerate(text) if c.isdigit()] or [0]
    number, lines = draw.choice(digits), text.splitlines(keepends=True)
    line = draw.choice(lines)
    return draw.choice(
        [
            lambda: data[:at],
            lambda: bytes(flipped),
            lambda: f"{text[:number]}1e999{text[number + 1 :]}".encode(),
            lambda: f"{text[:number]}{'7' * 5000}{text[number + 1 :]}".encode(),
            lambda: f"{text[:number]}{'[' * 3000}{text[number + 1 :]}".encode(),
            lambda: f"{text[:number]}{'[' * 2000}{']' * 2000}{text[number + 1 :]}".encode(),
            lambda: f"{text[:at]}\u00e4{text[at:]}".encode("latin-1"),
            lambda: text.encode("utf-16"),
            lambda: text.replace(line, line + line).encode(),
            lambda: draw.choice([b"", b"\0", b"[]", b"null", b"{}", b'"a"', b"1", b"\xff\xfe", b"{}\n{}\n"]),
        ]
    )()


def mutate_json(value: Any, seed: int, n: int, indent: int | None = 2) -> Iterator[bytes]:
    """`n` files that are nearly the JSON of `value`: two thirds with another value, one third with other bytes."""
    draw = random.Random(seed)
    text = json.dumps(value, indent=indent)
    for i in range(n):
        yield spoil_text(text, draw) if i % 3 == 0 else json.dumps(change_value(value, draw), indent=indent).encode()
