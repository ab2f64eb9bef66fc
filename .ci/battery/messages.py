"""Requests of the server's battery, as bytes: right ones, malformed ones, and small files that become large."""

import io
import random
import zipfile
import zlib

from PIL import Image

TOKEN = "sixteen-letters-and-more"
KEY = {"Authorization": f"Bearer {TOKEN}"}


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    told = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def form(*pictures: bytes, field: str = "photos") -> tuple[bytes, dict[str, str]]:
    part = f'--xyz\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n\r\n'.encode()
    body = b"".join(part + data + b"\r\n" for data in pictures) + b"--xyz--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=xyz"}


def ask(*pictures: bytes, path: str = "/predict", headers: dict[str, str] | None = None) -> bytes:
    body, own = form(*pictures)
    return request("POST", path, body, own | (headers or {}))


def make_png(side_px: int, *, complete: bool = False, text: bytes = b"") -> bytes:
    """A grey PNG that says it has side_px² pixels, all of them black if it is `complete`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size, pack = side_px.to_bytes(4, "big"), zlib.compressobj(9)
    rows = side_px if complete else 100
    data = b"".join([*(pack.compress(bytes(side_px + 1)) for _ in range(rows)), pack.flush()])
    parts = [chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00"), *([chunk(b"zTXt", text)] if text else [])]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def list_bombs() -> dict[str, bytes]:
    """Small files that become large."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000_000))
    found = {"a zip archive of 100 MB": packed.getvalue(), "a PNG of 40,000² px": make_png(40_000),
             "a whole PNG of 12,000² px": make_png(12_000, complete=True),
             "an svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'}  # fmt: skip
    for kind, width_at, height_at, n_bytes in (("BMP", 18, 22, 4), ("GIF", 6, 8, 2), ("WEBP", 26, 28, 2)):
        found[f"a {kind} of 60,000² px"] = _enlarge(kind, width_at, height_at, n_bytes)
    entry = _draw("TIFF").index(b"\x00\x01\x04\x00\x01\x00\x00\x00@") + 8  # the width's; the height's is the next
    found["a TIFF of 60,000² px"] = _enlarge("TIFF", entry, entry + 12, 4)
    return found


def _draw(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, kind)
    return buffer.getvalue()


def _enlarge(kind: str, width_at: int, height_at: int, n_bytes: int) -> bytes:
    """Write a picture whose header says 60,000 px for each side."""
    data = bytearray(_draw(kind))
    for place in (width_at, height_at):
        data[place : place + n_bytes] = (60_000).to_bytes(n_bytes, "little")
    return bytes(data)


def list_malformed(pictures: list[bytes], n: int) -> list[bytes]:
    """Make requests that are wrong in twelve ways in turn, by a fixed seed."""
    rng = random.Random(0)
    made = []
    for number in range(n):
        ways = _make_wrong(rng.choice(pictures), rng.randbytes(rng.randrange(1, 3000)), rng)
        made.append(ways[number % len(ways)])
    return made


def _make_wrong(data: bytes, junk: bytes, rng: random.Random) -> list[bytes]:
    body, own = form(data)
    place = rng.choice(["predict/..", "etc/passwd", "../../etc/passwd", "%00", "x" * 500])
    return [
        ask(junk),
        ask(data[: rng.randrange(1, len(data) // 2)]),
        ask(b""),
        ask(),
        request("POST", "/predict", *form(data, field="other")),
        request("POST", "/predict", body, {"Content-Type": "application/json"}),
        request("POST", "/predict", body, {"Content-Type": "multipart/form-data"}),
        request("POST", "/predict", body[: len(body) // 2], own),
        request(rng.choice(["PUT", "PATCH", "DELETE"]), "/predict", body, own),
        ask(data, path=f"/{place}"),
        ask(data, path="/classes/x", headers={"Authorization": f"Bearer {junk.hex()[:40]}"}),
        junk.replace(b"\n", b" ") + b"\r\n\r\n",
    ]
