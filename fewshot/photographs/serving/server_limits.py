"""What a server refuses before it reads on: requests without the token, bodies too large, clients too slow."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot.photographs.serving.server_metrics import Metrics

MIB = 1 << 20
BODIES_AT_ONCE = 8  # so many largest bodies may be held at the same time, in many small ones
HEADER_SECONDS = 10.0  # from the first byte of a request to the end of its header
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    `body_mib`: of one request. `pictures`: of one request. `waiting`: pictures that wait for the encoder. `batch`:
    pictures that are encoded in one call. `seconds`: for a request to arrive, and again until it is answered.
    """

    body_mib: int = 32
    pictures: int = 64
    waiting: int = 1024
    batch: int = 32
    seconds: float = 30.0


class Gate:
    """Checks each request's token, then the size and the time of its body while it arrives; counts what is answered.

    `is_open(method, path)`: whether a request needs no token.
    """

    def __init__(
        self, app: App, *, limits: Limits, token: str, is_open: Callable[[str, str], bool], metrics: Metrics
    ) -> None:
        self.app, self.limits, self.token, self.is_open, self.metrics = app, limits, token, is_open, metrics
        self.held = 0  # bytes of all bodies that are being read or answered

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = perf_counter(), 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            refused = self._refuse_header(scope)
            if refused is not None:
                await refused(scope, receive, note_status)
            else:
                await self._pass_on(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.note_request(scope["method"], route, status, perf_counter() - started)

    async def _pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        largest, held, arrived = self.limits.body_mib * MIB, 0, False

        async def receive_part() -> Message:
            nonlocal held, arrived
            if arrived:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the request took longer than {self.limits.seconds:g} s to arrive") from None
            n_bytes = len(message.get("body", b""))
            held, self.held = held + n_bytes, self.held + n_bytes
            arrived = not message.get("more_body", False)
            if held > largest:
                raise HTTPException(413, _say_too_large(self.limits))
            if self.held > BODIES_AT_ONCE * largest:
                raise HTTPException(503, "too much is being sent at once: try again", {"Retry-After": "2"})
            return message

        try:
            await self.app(scope, receive_part, send)
        finally:
            self.held -= held

    def _refuse_header(self, scope: Message) -> JSONResponse | None:
        headers = dict(scope["headers"])
        if not self.is_open(scope["method"], scope["path"]):
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not secrets.compare_digest(given.strip(), self.token.encode()):
                why = "this needs the server's token: Authorization: Bearer TOKEN"
                return JSONResponse({"detail": why}, 401, {"WWW-Authenticate": "Bearer"})
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self.limits.body_mib * MIB:
            return JSONResponse({"detail": _say_too_large(self.limits)}, 413, {"Connection": "close"})
        return None


class TimedProtocol(H11Protocol):
    """Closes a connection whose request has no whole header in time; uvicorn itself waits without end."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._due = self.loop.call_later(HEADER_SECONDS, self._close)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that has begun must have its header in time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._due is None:
            self._due = self.loop.call_later(HEADER_SECONDS, self._close)

    def on_response_complete(self) -> None:
        """A next request may come on this connection, for which uvicorn waits by its own rule."""
        self._stop_waiting()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _close(self) -> None:
        self._due = None
        self.transport.close()


def _say_too_large(limits: Limits) -> str:
    return f"the request is larger than {limits.body_mib} MiB: send fewer or smaller photographs"
