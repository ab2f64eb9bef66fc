"""Atomic replacement of files, and JSON with one item per line."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot.errors import DataError, OutputError
from fewshot.runtime.files import check_writable, format_json_by_line, read_regular, write_whole


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "old\r\nlines\n")
    path.chmod(0o640)

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match=r"\(the disk is full\); the previous file is unchanged"):
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


def test_links_are_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "real.txt")
    write_whole(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there" / "real.txt").read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["real.txt"]


def refused(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Places that cannot be written to, each with words of the expected message."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "null").symlink_to("/dev/null")
    return {
        "device": (Path("/dev/null"), "it is a device, no regular file"),
        "link to a device": (tmp_path / "null", "it is a device, no regular file"),
        "pipe": (tmp_path / "pipe", "it is a pipe, no regular file"),
        "folder": (tmp_path / "folder", "it is a folder, no regular file"),
        "in a file": (tmp_path / "file" / "a.csv", "cannot be written"),
        "dangling link": (tmp_path / "dangling", "it is a link to .*gone, which does not exist"),
        "link to itself": (tmp_path / "circle", "cannot be written"),
        "long name": (tmp_path / ("n" * 300), "File name too long"),
        "zero byte": (tmp_path / "a\0b", "null byte"),
    }


def test_what_cannot_be_written_is_refused_before_and_after_the_work(tmp_path):
    for name, (path, says) in refused(tmp_path).items():
        for write in (check_writable, lambda place: write_whole(place, "text")):
            with pytest.raises(OutputError, match=says):
                write(path)
            assert path.name not in os.listdir(tmp_path) or name != "long name"
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "file").read_text() == "x"


def test_a_name_as_long_as_the_system_allows_is_written(tmp_path):
    write_whole(tmp_path / ("n" * 255), "text")
    write_whole(tmp_path / ("ü" * 127), "text")
    assert len(os.listdir(tmp_path)) == 2


def test_two_outputs_and_an_input_have_places_of_their_own(tmp_path):
    check_writable(tmp_path / "a", None, tmp_path / "b" / "c")
    with pytest.raises(OutputError, match="this command reads or writes another file of that name"):
        check_writable(tmp_path / "a", tmp_path / "b" / ".." / "a")
    with pytest.raises(OutputError, match="this command reads or writes another file of that name"):
        check_writable(tmp_path / "a", inputs=[tmp_path / "a"])
    assert os.listdir(tmp_path) == []  # nothing is made by asking


def test_the_next_write_removes_what_a_killed_process_left(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from fewshot.runtime.files import replacing
with replacing({str(tmp_path / "a.txt")!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / f".else.{os.getpid()}").write_text("of another file")
    write_whole(tmp_path / "a.txt", "whole")
    assert sorted(os.listdir(tmp_path)) == [f".else.{os.getpid()}", "a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_regular_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", "name") == b"abc"
    for path, says in ((tmp_path, "Is a directory"), (tmp_path / "b", "No such file"), (Path("/dev/zero"), "a device")):
        with pytest.raises(DataError, match=f"name: the file cannot be read.*{says}"):
            read_regular(path, "name")
    with pytest.raises(DataError, match="null byte"):
        read_regular(tmp_path / "a\0b", "name")
