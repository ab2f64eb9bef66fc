"""`fewshot serve`: answers, limits, tokens, and classes that outlive a killed process."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fewshot.config import ServeConfig
from fewshot.errors import ConfigError

pytest.importorskip("fastapi_offline", reason="what serves is not installed: pip install 'fewshot[serve]'")
pytest.importorskip("uvicorn", reason="what serves is not installed: pip install 'fewshot[serve]'")
pytest.importorskip("multipart", reason="what serves is not installed: pip install 'fewshot[serve]'")
pytest.importorskip("prometheus_client", reason="what serves is not installed: pip install 'fewshot[serve]'")
pytest.importorskip("onnxscript", reason="what writes ONNX is not installed: pip install 'fewshot[export]'")
pytest.importorskip("httpx", reason="the tests' client is not installed: pip install 'fewshot[test]'")

import httpx
import uvicorn
from test_export import COLOURS, draw_coin, fit

from fewshot.photographs.serving import server_limits
from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.predictor import Predictor
from fewshot.photographs.serving.server import create_app
from fewshot.photographs.serving.server_limits import Limits, TimedProtocol
from fewshot.photographs.serving.server_store import Store
from fewshot.photographs.serving.serving import serve

TOKEN = "a token of the tests"
KEY = {"Authorization": f"Bearer {TOKEN}"}
YELLOW = (200, 200, 40)
LIMITS = Limits(body_mib=1, pictures=4, seconds=20.0)


def draw(colour: tuple[int, int, int], number: int) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    draw_coin(colour, number).save(buffer, "PNG")
    return buffer.getvalue()


def as_form(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (f"{n}.png", data)) for n, data in enumerate(pictures)]


class Served:
    """A server in a thread, and a client of it."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, is_local: bool = True) -> None:
        self.store = Store(folder, n_threads=1)
        app = create_app(self.store, TOKEN, limits, is_local)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, http=TimedProtocol, log_level="error", ws="none"))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
            assert self.thread.is_alive()
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.should_exit = True
        self.thread.join()
        self.store.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "coins"
    write_predictor(fit(false_accept_rate=0.3), folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    shutil.copytree(exported, tmp_path / "coins")
    return tmp_path / "coins"


def test_many_clients_at_once_are_told_what_a_single_one_is_told(folder):
    pictures = [draw(colour, 40 + n) for colour in COLOURS.values() for n in range(8)]
    alone = Predictor(folder)
    expected = [alone.answer(alone.encode(alone.read([data])[0])) for data in pictures]
    with Served(folder) as served, ThreadPoolExecutor(16) as pool:
        asked = [n % len(pictures) for n in range(96)]
        responses = list(pool.map(lambda n: served.client.post("/predict", files=as_form(pictures[n])), asked))
        together = served.client.post("/predict", files=as_form(*pictures[:4])).json()["answers"]
        counted = served.client.get("/metrics").text
    assert [one["photo"] for one in together] == [f"{n}.png" for n in range(4)]
    for n, one in [*((n, r.json()["answers"][0]) for n, r in zip(asked, responses, strict=True)), *enumerate(together)]:
        assert one["label"] == expected[n].labels[0]
        found = [one["probabilities"][name] for name in alone.classes]
        np.testing.assert_allclose(found, expected[n].probabilities[0], atol=1e-9)
        assert one["accepted"] == expected[n].accepted[0]
    lines = dict(line.rsplit(" ", 1) for line in counted.splitlines() if line.startswith("fewshot_"))
    assert float(lines['fewshot_requests_total{method="POST",route="/predict",status="200"}']) == 97
    assert float(lines["fewshot_batch_pictures_sum"]) == 100
    assert float(lines["fewshot_batch_pictures_count"]) < 97  # some were encoded together


def test_answers_name_the_classes_that_may_be_right(folder):
    pictures = [draw(colour, 60 + n) for colour in COLOURS.values() for n in range(3)]
    pixels, _ = Predictor(folder).read(pictures)
    for coverage, promised in ((0.8, True), (0.99, False)):  # of 12 photographs in 4 groups
        store = Store(folder, coverage=coverage)
        said = [one["set"] for one in store.answer(pixels)]
        store.close()
        assert said == (Predictor(folder).predict_set(pictures, coverage) if promised else [None] * 9)


def test_a_class_is_stored_before_it_is_acknowledged(folder):
    with Served(folder) as served:
        new = as_form(draw(YELLOW, 1), draw(YELLOW, 2))
        added = served.client.post("/classes/ä new one", files=new, headers=KEY)
        assert added.status_code == 201
        assert added.json()["classes"] == [*COLOURS, "ä new one"]
        assert Predictor(folder).classes == [*COLOURS, "ä new one"]
        assert served.client.post("/classes/ä new one", files=new, headers=KEY).status_code == 409
        assert served.client.delete("/classes/ä new one", headers=KEY).json()["classes"] == list(COLOURS)
        assert Predictor(folder).classes == list(COLOURS)
        assert served.client.delete("/classes/ä new one", headers=KEY).status_code == 404
        assert served.client.delete("/classes/c", headers=KEY).status_code == 422  # three are needed to refuse
        assert served.client.get("/classes").json()["classes"] == list(COLOURS)


def test_a_change_that_cannot_be_stored_did_not_happen(folder, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    with Served(folder) as served:
        monkeypatch.setattr(os, "fsync", fail)
        said = served.client.post("/classes/d", files=as_form(draw(YELLOW, 1)), headers=KEY)
        assert said.status_code == 500
        assert "cannot be written (No space left on device)" in said.json()["detail"]
        assert served.client.get("/classes").json()["classes"] == list(COLOURS)
    assert Predictor(folder).classes == list(COLOURS)


def make_bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (40_000).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(4_000_000), 9)) + chunk(b"IEND", b"")


def test_what_is_wrong_is_refused_with_a_sentence(folder):
    coin = draw(COLOURS["c"], 1)
    with Served(folder) as served:
        client = served.client
        for form, status, words in (
            (as_form(coin, b"no picture"), 422, "1 of 2 images cannot be used: 1.png: this is no image"),
            (as_form(make_bomb()), 422, "0.png: the image has 1,600,000,000 pixels"),
            (as_form(*[coin] * 5), 413, "5 photographs in one request: at most 4"),
            (as_form(bytes(2 << 20)), 413, "larger than 1 MiB"),
            ([("other", ("x.png", coin))], 422, "body.photos"),
        ):
            said = client.post("/predict", files=form)
            assert (said.status_code, words in said.json()["detail"]) == (status, True), said.text
        begun = b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        unsized = client.post("/predict", content=iter([begun, *[bytes(1 << 16)] * 64]), headers=kind)
        assert unsized.status_code == 413
        for name in ("..%2f..%2fetc%2fpasswd", "..%5cx", "a%00b", "%ff", "%0a", "a%0a", "x" * 101, "%2e%2e%2e", "%20a"):
            said = client.post(f"/classes/{name}", files=as_form(coin), headers=KEY)
            assert said.status_code == 422, (name, said.text)
            assert "a class is called by 1 to 100 printable characters" in said.json()["detail"]
        for method, headers in (
            ("POST", {}),
            ("DELETE", {"Authorization": "Bearer wrong"}),
            ("DELETE", {"Authorization": TOKEN}),
        ):
            assert client.request(method, "/classes/c", headers=headers).status_code == 401
        assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
        assert client.get("/healthz").json() == {"status": "ok", "classes": 3, "waiting": 0}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["coins"]


def test_a_declared_gigabyte_is_refused_before_it_is_sent(folder):
    with Served(folder) as served, socket.create_connection(("127.0.0.1", served.port), timeout=20) as line:
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


HEADER = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"


@pytest.mark.parametrize("begun", [b"", HEADER, HEADER + FORM], ids=["nothing", "header", "body"])
def test_a_slow_client_is_let_go(folder, monkeypatch, begun):
    monkeypatch.setattr(server_limits, "HEADER_SECONDS", 0.3)
    with Served(folder, Limits(seconds=0.3)) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as line:
            line.sendall(begun)
            said = line.recv(1000)
        assert said.startswith(b"HTTP/1.1 408 ") if b"\r\n\r\n" in begun else said == b""
        assert served.client.get("/healthz").status_code == 200


def test_on_another_address_questions_need_the_token_too(folder):
    with Served(folder, is_local=False) as served:
        coin = as_form(draw(COLOURS["c"], 1))
        assert served.client.post("/predict", files=coin).status_code == 401
        assert served.client.get("/metrics").status_code == 401
        assert served.client.post("/predict", files=coin, headers=KEY).status_code == 200
        assert served.client.get("/").status_code == 200


def test_the_command_asks_for_a_token_and_for_a_folder_of_its_own(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("FEWSHOT_TOKEN", raising=False)
    for host in ("0.0.0.0", "192.168.1.7", "example.org"):
        with pytest.raises(ConfigError, match="name a file with a token"):
            serve(ServeConfig(model=str(folder), host=host))
    (tmp_path / "token").write_text("short")
    with pytest.raises(ConfigError, match="16 or more"):
        serve(ServeConfig(model=str(folder), token_file=str(tmp_path / "token")))
    store = Store(folder)
    with pytest.raises(ConfigError, match="served by another process"):
        Store(folder)
    store.close()
    Store(folder).close()


def test_a_port_in_use_is_a_sentence_and_no_address_is_shown(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "fewshot", "serve", "--model", str(folder), "--port", str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    said = f"error: port {port} of 127.0.0.1 cannot be listened at (Address already in use): choose another with"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_the_address_is_shown_when_the_server_listens(folder, monkeypatch, capsys):
    said = []

    def connect_and_stop(self, sockets):
        said.append(capsys.readouterr().out)
        socket.create_connection(sockets[0].getsockname(), timeout=5).close()
        self.started = True

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(uvicorn.Server, "run", connect_and_stop)
    serve(ServeConfig(model=str(folder), port=port))
    assert said[0].startswith(f"http://127.0.0.1:{port}/#token=")


def test_acknowledged_classes_outlive_a_killed_process(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "fewshot", "serve", "--model", str(folder), "--port", str(port)]
    process = subprocess.Popen(words, env=os.environ | {"FEWSHOT_TOKEN": "sixteen-letters-x"}, stdout=subprocess.PIPE)
    acknowledged = []
    try:
        assert b"http://127.0.0.1" in process.stdout.readline()
        headers, transport = {"Authorization": "Bearer sixteen-letters-x"}, httpx.HTTPTransport(retries=8)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, transport=transport, timeout=60)
        killer = threading.Timer(2.0, lambda: process.send_signal(signal.SIGKILL))
        for n in range(500):
            try:
                said = client.post(f"/classes/n{n}", files=as_form(draw((n % 250, 9, 90), n)))
            except httpx.TransportError:
                break
            assert said.status_code == 201
            acknowledged.append(f"n{n}")
            if n == 0:
                killer.start()
        client.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert acknowledged
    found = Predictor(folder).classes
    assert set(acknowledged) <= set(found)
    assert len(set(found) - set(acknowledged) - set(COLOURS)) <= 1  # what was being stored when it was killed
