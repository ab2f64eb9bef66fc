"""A headless Chromium, driven by the DevTools protocol over two pipes."""

import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Browser:
    """A page of a size in pixels; `with Browser(...) as page`."""

    def __init__(self, profile: Path, width: int = 1000, height: int = 800) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        words = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'  # the protocol's pipes are the descriptors 3 and 4
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._numbers, self._session = b"", itertools.count(1), None
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        asked = {"targetId": page["targetId"], "flatten": True}
        self._session = self.call("Target.attachToTarget", **asked)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, command: str, **values: Any) -> Any:
        """Call a command of the protocol; events are passed over."""
        number = next(self._numbers)
        message = {"id": number, "method": command, "params": values}
        os.write(
            self._to, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            while b"\0" not in self._buffer:
                part = os.read(self._from, 1 << 16)
                assert part, "Chromium has ended"
                self._buffer += part
            line, self._buffer = self._buffer.split(b"\0", 1)
            said = json.loads(line)
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}; the page: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """Choose files in an input, as a person does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)
