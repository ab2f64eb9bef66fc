"""Checking and fetching data sets, against a server on this machine."""

import hashlib
import http.server
import io
import os
import re
import runpy
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from fewshot.datasets import download
from fewshot.datasets.download import Item, get_data, inspect
from fewshot.datasets.sources import NEEDS
from fewshot.errors import DataError, UnknownNameError

SCRIPT = Path(__file__).parents[2] / "scripts" / "get_data.py"
CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        if link is not None:
            member = tarfile.TarInfo("cifar-100-python")
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CIFAR = {"cifar-100-python/train": b"train", "cifar-100-python/test": b"test", "file.txt~": b""}
COINS = {f"coins-1a2b/classified/train/{c}/a_{i}.jpg": b"j" for c in ("1c", "2c") for i in range(3)}
PAGES = {
    "/good": CONTENT,
    "/tar": tar_of(CIFAR),
    "/zip": zip_of(COINS | {"coins-1a2b/README.md": b"r"}),
    "/evil": tar_of({"../evil": b"e", "cifar-100-python/train": b"train"}),
    "/link": tar_of({"cifar-100-python/train": b"train"}, link=".."),
    "/half-tar": tar_of({"cifar-100-python/train": os.urandom(100_000)})[:50_000],
}


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        path = "/good" if self.path == "/cut" else self.path
        if path not in PAGES:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGES[path])))
        self.end_headers()
        self.wfile.write(PAGES[path][: 3_000_000 if self.path == "/cut" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(root: Path, *alternatives: Item, verify_only: bool = False) -> tuple[bool, str]:
    lines: list[str] = []
    complete = get_data({"set": [alternatives]}, ["set"], root, verify_only, lines.append)
    assert lines[0] == "set"
    return complete, "\n".join(lines[1:])


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_file_is_fetched_checked_and_put_in_its_place(tmp_path, server):
    item = Item("set/file.bin", (md5(CONTENT),), url=server.url + "/good")
    complete, said = run(tmp_path, item)
    assert complete
    assert tree(tmp_path) == ["set", "set/file.bin"]
    assert (tmp_path / "set" / "file.bin").read_bytes() == CONTENT
    assert re.search(r"ok +\S+set/file.bin: 5,120,000 bytes, md5:\w+, sha256:\w+, as published", said)
    assert run(tmp_path, item)[0]
    assert server.asked == ["/good"]  # what is there is not fetched again


def test_either_of_two_checksums_will_do(tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert inspect(tmp_path, Item("file.bin", (md5(b"original"), sha256(CONTENT)))).state == "ok"
    assert inspect(tmp_path, Item("file.bin", (md5(b"original"), sha256(b"other")))).state == "differs"
    finding = inspect(tmp_path, Item("file.bin"))
    assert (finding.state, "no checksum is published" in finding.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("page", "checksum", "message"),
    [
        ("/good", md5(b"other"), f"not what is published: 5,120,000 bytes, {md5(CONTENT)}"),
        ("/absent", md5(CONTENT), "could not be fetched .HTTP Error 404"),
        ("/cut", md5(CONTENT), "broke off after 3,000,000 of 5,120,000 bytes|IncompleteRead"),
        ("/cut", None, "broke off after 3,000,000 of 5,120,000 bytes|IncompleteRead"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing_behind(tmp_path, server, page, checksum, message):
    root = tmp_path / "data" / "raw"
    complete, said = run(root, Item("set/file.bin", (checksum,) if checksum else (), url=server.url + page))
    assert not complete
    assert tree(tmp_path) == []
    assert said.startswith("  missing")
    assert re.search(message, said)
    assert server.url + page in said
    assert f"fetch it by hand and put it at {root / 'set' / 'file.bin'}" in said


def test_without_network_the_address_and_the_place_are_said(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/CIFAR.tgz"
        complete, said = run(tmp_path, Item("set/folder/", n_images=1, url=url, inner="pictures"))
    assert not complete
    assert f"{url} could not be fetched (<urlopen error" in said
    assert f"unpack it so that the archive's folder pictures lies at {tmp_path / 'set' / 'folder'}" in said
    assert tree(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path, server):
    (tmp_path / "set").write_bytes(b"a file in the way")
    complete, said = run(tmp_path, Item("set/file.bin", url=server.url + "/good"))
    assert not complete
    assert "could not be fetched" in said
    assert tree(tmp_path) == ["set"]


def cifar_item(url: str, **changes) -> Item:
    fields = {
        "files": {"train": md5(b"train"), "test": md5(b"test")},
        "url": url,
        "url_checksum": md5(PAGES["/tar"]),
        "inner": "cifar-100-python",
    }
    return Item("set/cifar-100-python/", **(fields | changes))


def test_a_tar_archive_is_unpacked_and_its_files_checked(tmp_path, server):
    complete, said = run(tmp_path, cifar_item(server.url + "/tar"))
    assert complete, said
    assert tree(tmp_path) == ["set", *(f"set/cifar-100-python{f}" for f in ("", "/test", "/train"))]
    assert "2 files, checksums as published" in said


def test_a_zip_archive_is_unpacked_and_its_images_counted(tmp_path, server):
    item = Item("set/train/", n_images=6, url=server.url + "/zip", inner="coins-*/classified/train")
    complete, said = run(tmp_path, item)
    assert complete, said
    assert sum(f.endswith(".jpg") for f in tree(tmp_path)) == 6
    assert (tmp_path / "set" / "train" / "2c" / "a_0.jpg").exists()
    assert "6 images, as published" in said


COUNT_7 = {"url_checksum": None, "files": {}, "n_images": 7, "inner": "*"}


@pytest.mark.parametrize(
    ("page", "changes", "message"),
    [
        ("/tar", {"url_checksum": md5(b"")}, "published is md5:d41d8cd98f00b204e9800998ecf8427e"),
        ("/tar", {"files": {"train": md5(b"x")}}, f"its file train is {md5(b'train')}, published is"),
        ("/tar", {"files": {"valid": md5(b"x")}}, "its file valid is missing, published is"),
        ("/tar", {"inner": "cifar-10-*-py"}, "has 0 folders cifar-10-.-py, expected one"),
        (
            "/zip",
            COUNT_7,
            "6 images in it, published are 7",
        ),
        ("/good", {"url_checksum": None}, "is no readable archive"),
        ("/half-tar", {"url_checksum": None}, "is no readable archive"),
        ("/evil", {"url_checksum": None}, r"is no readable archive \(../evil would lie outside of the folder"),
        ("/link", {"url_checksum": None}, "is no readable archive .cifar-100-python is neither a file nor a folder"),
    ],
)
def test_an_archive_that_is_not_the_published_one_leaves_nothing_behind(tmp_path, server, page, changes, message):
    complete, said = run(tmp_path / "root", cifar_item(server.url + page, **changes))
    assert not complete
    assert re.search(message, said), said
    assert tree(tmp_path) == []


def test_verify_only_fetches_nothing_and_says_where_it_belongs(tmp_path, server):
    item = Item("set/file.bin", (md5(CONTENT),), url=server.url + "/good")
    complete, said = run(tmp_path, item, Item("set/other.bin"), verify_only=True)
    assert not complete
    assert server.asked == []
    assert said.startswith(f"  missing  {tmp_path / 'set' / 'file.bin'}: put it there from {server.url}/good")
    assert f"{tmp_path / 'set' / 'other.bin'} would do as well" in said


def test_what_differs_is_named_and_never_replaced(tmp_path, server):
    (tmp_path / "file.bin").write_bytes(b"mine")
    complete, said = run(tmp_path, Item("file.bin", (md5(CONTENT),), url=server.url + "/good"))
    assert not complete
    assert said.startswith("  differs")
    assert f"4 bytes, {md5(b'mine')}" in said
    assert "move it away to fetch it again" in said
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert server.asked == []


def test_an_alternative_that_is_there_is_enough(tmp_path, server):
    (tmp_path / "other.bin").write_bytes(b"pack")
    alternatives = (
        Item("file.bin", (md5(b"x"),), url=server.url + "/good"),
        Item("other.bin", (sha256(b"pack"),)),
    )
    complete, said = run(tmp_path, *alternatives)
    assert complete
    assert said.startswith(f"  ok       {tmp_path / 'other.bin'}")
    (tmp_path / "other.bin").write_bytes(b"changed")
    assert run(tmp_path, *alternatives)[1].startswith(f"  differs  {tmp_path / 'other.bin'}")
    assert server.asked == []


def test_what_needs_a_login_is_only_told(tmp_path):
    complete, said = run(tmp_path, Item("set/data/", advice="https://example.org (needs a login)"))
    assert not complete
    assert said == f"  missing  {tmp_path / 'set' / 'data'}: put it there from https://example.org (needs a login)"
    (tmp_path / "set" / "data").mkdir(parents=True)
    assert "0 images in it" in run(tmp_path, Item("set/data/"))[1]
    (tmp_path / "set" / "data" / "a.jpg").write_bytes(b"j")
    assert run(tmp_path, Item("set/data/")) == (True, f"  ok       {tmp_path / 'set' / 'data'}: 1 images")
    assert "a folder is expected" in run(tmp_path, Item("set/data/a.jpg/"))[1]
    assert "a file is expected" in run(tmp_path, Item("set/data"))[1]


def test_one_failure_does_not_stop_the_rest(tmp_path, server):
    needs = {
        "a": [[Item("a", url=server.url + "/absent")]],
        "b": [[Item("b", url=server.url + "/good")]],
        "c": [[Item("c", url=server.url + "/good")]],
    }
    said: list[str] = []
    assert not get_data(needs, ["a", "b"], tmp_path, False, said.append)
    assert tree(tmp_path) == ["b"]
    assert not get_data(needs, [], tmp_path, False, said.append)  # none named: all
    assert tree(tmp_path) == ["b", "c"]
    with pytest.raises(UnknownNameError, match="omniglott"):
        get_data(needs, ["omniglott"], tmp_path, False)


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, server, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_compute_checksum", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Item("set/file.bin", (md5(CONTENT),), url=server.url + "/good"))
    assert tree(tmp_path) == []


def test_every_source_is_complete():
    for name, things in NEEDS.items():
        for alternatives in things:
            first = alternatives[0]
            assert first.url or first.advice, name
            assert bool(first.url) != bool(first.advice), name
            if first.url:
                assert first.url.startswith("https://"), name
                assert first.checksums or first.url_checksum or first.n_images, name
                assert first.path.endswith("/") == bool(first.inner), name
            for item in alternatives:
                sums = [*item.checksums, *item.files.values(), *filter(None, [item.url_checksum])]
                assert all(re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", s) for s in sums), name


def test_checksums_are_those_that_torchvision_publishes():
    datasets = pytest.importorskip("torchvision.datasets")
    cifar = NEEDS["cifar_fs"][0][0]
    assert (cifar.url, cifar.url_checksum) == (datasets.CIFAR100.url, f"md5:{datasets.CIFAR100.tgz_md5}")
    listed = [*datasets.CIFAR100.train_list, *datasets.CIFAR100.test_list]
    meta = datasets.CIFAR100.meta
    expected = {**{f: f"md5:{s}" for f, s in listed}, meta["filename"]: f"md5:{meta['md5']}"}
    assert cifar.files == expected
    for (item,) in NEEDS["omniglot"]:
        stem = Path(item.path).stem
        assert f"md5:{datasets.Omniglot.zips_md5[stem]}" in item.checksums
        assert item.url == f"{datasets.Omniglot.download_url_prefix}/{stem}.zip"


def test_the_script_explains_itself_without_loading_torch():
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    listed = re.search(r"Data sets: (.*?);", " ".join(done.stdout.split()))
    assert listed[1].split() == list(NEEDS)


def call_script(monkeypatch, *arguments: str):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stopped.value.code


def test_the_script_checks_a_root_and_ends_with_1_where_something_is_missing(tmp_path, monkeypatch, capsys):
    arguments = ["--root", str(tmp_path), "--verify_only", "true", "--dataset", "omniglot", "cub"]
    assert call_script(monkeypatch, *arguments) == 1
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if not line.startswith(" ")] == ["omniglot", "cub"]
    assert said.count("missing") == 3
    assert call_script(monkeypatch, "--dataset", "omniglott") == 2
    assert "Did you mean 'omniglot'?" in capsys.readouterr().err


@pytest.mark.needs_data
def test_the_script_finds_the_real_files_as_published(data_root, monkeypatch, capsys):
    arguments = ["--root", str(data_root), "--verify_only", "true", "--dataset", "omniglot", "cifar_fs"]
    assert call_script(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.count("  ok ") == 3


def test_fetch_raises_where_it_is_called_alone(tmp_path, server):
    with pytest.raises(DataError, match="404"):
        download.fetch(tmp_path, Item("set/file.bin", url=server.url + "/absent"))
