"""The server of the battery as a process, and what of its promises was broken."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from messages import TOKEN

failures: list[str] = []


def check(right: bool, sentence: str) -> None:
    """Note a broken promise."""
    if not right:
        failures.append(sentence)
        print(f"BROKEN: {sentence}", flush=True)


class Server:
    """The server as a process, and requests to it as bytes."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = [sys.executable, "-m", "fewshot", "serve", "--model", str(folder), "--port", str(self.port), *options]
        environment = os.environ | {"FEWSHOT_TOKEN": TOKEN}
        self.process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        assert b"http" in self.process.stdout.readline()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.05)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        said = self.process.communicate()[1].decode(errors="replace")
        check("Traceback" not in said, f"the server wrote a traceback: {said[-2000:]}")

    def memory_mb(self, what: str = "VmHWM") -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(what))

    async def send(self, data: bytes, wait_s: float = 900) -> tuple[int, bytes]:
        """Send bytes on a connection of their own; status and body, status 0 where the line was closed without."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), wait_s)
            length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
            return int(head.split()[1]), await asyncio.wait_for(reader.readexactly(length), wait_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0, b""
        finally:
            writer.close()
