"""`fewshot serve` under many clients, bad requests and kill -9; `make release-check` runs it, minutes.

`.venv/bin/python .ci/battery/run.py [--seconds 60] [--clients 200]` with the extras [pretrained], [export], [serve].
The classifier is EfficientNet-Lite0 at 128 px, learned from the package's own coins. Prints a line of numbers for each
part; the exit status is 1 where a promise was broken.
"""

import argparse
import asyncio
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from messages import KEY, TOKEN, ask, form, list_bombs, list_malformed, make_png, request
from PIL import Image
from process import Server, check, failures

from fewshot import FewShotClassifier
from fewshot.datasets.folder import assign_groups
from fewshot.images.listing import list_class_files
from fewshot.photographs.demo import COINS
from fewshot.photographs.serving.export import write_predictor
from fewshot.photographs.serving.predictor import Predictor

MOST_DIFFERENCE = 1e-6
MOST_MB = 700  # of the server, whatever is sent: 2 photographs of 50 megapixels that are being opened among it


async def many_clients(folder: Path, pictures: list[bytes], n_clients: int, seconds: float) -> None:
    """Each client asks again and again; every answer is compared with the picture's single offline answer."""
    predictor = Predictor(folder)
    alone = [predictor.predict_proba([data])[0] for data in pictures]
    with Server(folder, "--timeout_seconds", "900") as server:
        before, times, statuses = server.memory_mb("VmRSS"), list[float](), Counter[int]()
        worst, until = 0.0, time.perf_counter() + seconds

        async def client(number: int) -> None:
            nonlocal worst
            turn = number
            while time.perf_counter() < until:
                begun, which = time.perf_counter(), turn % len(pictures)
                status, body = await server.send(ask(pictures[which]))
                times.append(time.perf_counter() - begun)
                statuses[status] += 1
                turn += 1
                if status == 200:
                    found = json.loads(body)["answers"][0]["probabilities"]
                    worst = max(
                        worst, *(abs(found[n] - p) for n, p in zip(predictor.classes, alone[which], strict=True))
                    )

        await asyncio.gather(*(client(number) for number in range(n_clients)))
        times.sort()
        print(f"{n_clients} clients for {seconds:g} s: {len(times)} requests, statuses {dict(statuses)}; largest "
              f"difference {worst:.1e}; p50 {times[len(times) // 2]:.2f} s, p99 {times[int(len(times) * 0.99)]:.2f} s; "
              f"memory {before:.0f} MB before, {server.memory_mb():.0f} MB at the most", flush=True)  # fmt: skip
        check(set(statuses) == {200}, f"not every request was answered: {dict(statuses)}")
        check(worst <= MOST_DIFFERENCE, f"answers differ by {worst}")
        check(server.memory_mb() < MOST_MB, f"the server held {server.memory_mb():.0f} MB")


async def bad_requests(folder: Path, pictures: list[bytes]) -> None:
    """Each is refused with 4xx, and the server answers afterwards."""
    with Server(folder, "--timeout_seconds", "60") as server:
        statuses = Counter[int]()
        for data in list_malformed(pictures, 500):
            status, _ = await server.send(data)
            statuses[status] += 1
            check(400 <= status < 500, f"status {status} for {data[:150]!r}")
        print(f"500 malformed requests: statuses {dict(statuses)}, {server.memory_mb():.0f} MB at the most", flush=True)
        for name, data in list_bombs().items():
            status, said = await server.send(ask(data))
            check(400 <= status < 500, f"{name}: status {status}, {said[:200]!r}")
        largest = ask(*[make_png(7000, complete=True)] * 4)  # as many pixels as are allowed
        allowed = await asyncio.gather(*(server.send(largest) for _ in range(3)))
        print(f"{len(list_bombs())} bombs refused; 12 photographs of 49 megapixels at once: statuses "
              f"{[status for status, _ in allowed]}, {server.memory_mb():.0f} MB at the most", flush=True)  # fmt: skip
        names = ["..%2f..%2fetc", "..", "%2e%2e", "..%5c..", "a%00b", "%2fetc%2fpasswd", "~%2fx", "x" * 101, "CON%0a",
                 "%e2%80%ae", "head.npz%2f..%2fx"]  # fmt: skip
        for name in names:
            status, _ = await server.send(ask(pictures[0], path=f"/classes/{name}", headers=KEY))
            check(400 <= status < 500, f"class {name}: status {status}")
        for wrong in ("", "Bearer", "Bearer ", "Basic " + TOKEN, "Bearer " + TOKEN[:-1], "Bearer " + TOKEN + "x"):
            status, _ = await server.send(ask(pictures[0], path="/classes/x", headers={"Authorization": wrong}))
            check(status == 401, f"token {wrong!r}: status {status}")
        sent = await stream_gigabyte(server)
        print(f"{len(names)} names and 6 tokens refused; of an endless body {sent / 1e6:.0f} MB were taken; "
              f"{server.memory_mb():.0f} MB at the most", flush=True)  # fmt: skip
        await still_answers(server, pictures[0])
    left = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
    check(left == ["changed", "coins"], f"folders beside the classifier: {left}")


async def stream_gigabyte(server: Server) -> int:
    """Send up to 1 GB without saying how much; returns how much was taken before the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    begun, own = form(b"")
    head = request("POST", "/predict", headers=own | {"Transfer-Encoding": "chunked"}).replace(
        b"Content-Length: 0\r\n", b""
    )
    writer.write(head + b"%x\r\n%s\r\n" % (len(begun[:-11]), begun[:-11]))
    answer, sent, block = asyncio.ensure_future(reader.readline()), 0, bytes(1 << 20)
    try:
        while sent < 1e9 and not answer.done():
            writer.write(b"%x\r\n%s\r\n" % (len(block), block))
            await writer.drain()
            sent += len(block)
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    line = await asyncio.wait_for(answer, 60)
    check(b" 413 " in line or not line, f"1 GB: {line!r}")
    writer.close()
    check(sent < 200e6, f"1 GB: {sent / 1e6:.0f} MB were taken")
    return sent


async def still_answers(server: Server, picture: bytes) -> None:
    check((await server.send(ask(picture)))[0] == 200, "the server answers no more")
    check((await server.send(request("GET", "/healthz")))[0] == 200, "/healthz answers no more")


async def slow_clients(folder: Path, pictures: list[bytes]) -> None:
    """100 that send a byte a second are let go; others are answered meanwhile."""
    data = ask(pictures[0])
    with Server(folder, "--timeout_seconds", "5") as server:

        async def drip(number: int) -> float:
            begun = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            end = asyncio.ensure_future(reader.read(20))
            place = 200 if number % 2 else 0  # within the body, or from the first letter of the header
            writer.write(data[:place])
            while not end.done() and time.perf_counter() < begun + 60:
                writer.write(data[place : place + 1])
                place += 1
                await asyncio.wait({end}, timeout=1)
            said = end.result() if end.done() and not end.exception() else b""
            check(end.done() and (said == b"" or b" 408 " in said), f"a slow client was told {said!r}")
            writer.close()
            return time.perf_counter() - begun

        slow = asyncio.gather(*(drip(number) for number in range(100)))
        await asyncio.sleep(2)
        await still_answers(server, pictures[0])
        print(f"100 slow clients were let go after at most {max(await slow):.0f} s", flush=True)
        await still_answers(server, pictures[0])


async def kills(folder: Path, pictures: list[bytes], n_kills: int) -> None:
    """Kill -9 while classes are added and photographs asked about; what was acknowledged is there afterwards."""
    rng, acknowledged = random.Random(1), list[str]()
    for turn in range(n_kills):
        with Server(folder) as server:
            asking = [asyncio.ensure_future(server.send(ask(picture))) for picture in pictures]
            for number in range(1000):
                name, changed = f"{turn}-{number}", Image.open(io.BytesIO(rng.choice(pictures))).convert("RGB")
                changed.putpixel((turn, number % 90), (255, 0, 255))  # no picture is in two classes
                buffer = io.BytesIO()
                changed.rotate(rng.uniform(0, 360)).save(buffer, "PNG")
                try:
                    status, _ = await server.send(ask(buffer.getvalue(), path=f"/classes/{name}", headers=KEY))
                except OSError:
                    break
                if status != 201:
                    check(status == 0, f"adding a class: status {status}")
                    break
                acknowledged.append(name)
                if not number:
                    kill, wait_s = server.process.send_signal, rng.uniform(0, 5)
                    asyncio.get_running_loop().call_later(wait_s, kill, signal.SIGKILL)
            await asyncio.gather(*asking, return_exceptions=True)
    found = Predictor(folder).classes
    lost, more = set(acknowledged) - set(found), len(found) - 4 - len(acknowledged)
    print(f"{n_kills} kills: {len(acknowledged)} classes acknowledged, {len(lost)} lost, {more} stored unacknowledged")
    check(not lost and 0 <= more <= n_kills, f"lost {sorted(lost)[:5]}, {more} more")
    check(bool(acknowledged), "no class was acknowledged before a kill")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["clients", "bad", "slow", "kills"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        files = assign_groups(COINS / "support", list_class_files(COINS / "support"), "(.*)_")
        classifier = FewShotClassifier(size_px=128, device="cpu", precision="float32")
        classifier.fit([f.path for f in files], [f.class_name for f in files])
        folder, changed = Path(place) / "coins", Path(place) / "changed"
        write_predictor(classifier, folder)
        shutil.copytree(folder, changed)
        pictures = [path.read_bytes() for path in sorted(COINS.rglob("*.jpg"))]
        parts = {
            "clients": lambda: many_clients(folder, pictures, asked.clients, asked.seconds),
            "bad": lambda: bad_requests(folder, pictures),
            "slow": lambda: slow_clients(folder, pictures),
            "kills": lambda: kills(changed, pictures, asked.kills),
        }
        for name in asked.parts:
            asyncio.run(parts[name]())
    print("\n".join(failures) or "the server kept its promises")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
