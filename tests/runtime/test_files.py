"""Files that are whole or not there, and JSON by the line."""

import json
from pathlib import Path

import pytest

from fewshot.runtime.files import format_json_by_line, write_whole


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "old\r\nlines\n")
    path.chmod(0o640)

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="full"):
        write_whole(path, "newer")
    monkeypatch.undo()
    assert path.read_bytes() == b"old\r\nlines\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    write_whole(path, "newer")
    assert path.read_text() == "newer"
    assert path.stat().st_mode & 0o777 == 0o640


def test_json_has_a_line_for_each_key_and_each_item():
    content = {"a": {"b": [1, 2]}, "items": [{"c": "ä"}, [3]], "d": None}
    text = format_json_by_line(content, "items")
    assert json.loads(text) == content
    assert text.splitlines() == [
        "{", '  "a": {"b": [1, 2]},', '  "items": [', '    {"c": "\\u00e4"},', "    [3]", "  ],", '  "d": null', "}",
    ]  # fmt: skip
    assert json.loads(format_json_by_line({"items": []}, "items")) == {"items": []}
