"""The HTTP application of an exported classifier: answers, changes of classes, a web page, metrics."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware

import fewshot
from fewshot.errors import DataError, FewShotError, OutputError, UnknownNameError
from fewshot.photographs.serving.server_batches import Batcher, BusyError
from fewshot.photographs.serving.server_limits import Gate, Limits
from fewshot.photographs.serving.server_metrics import Metrics
from fewshot.photographs.serving.server_page import write_server_page
from fewshot.photographs.serving.server_schema import Answer, Answers, Classes, Health, Problem
from fewshot.photographs.serving.server_store import ExistsError, Store

T = TypeVar("T")
LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]
N_DECODED_AT_ONCE = 2  # an opened photograph takes the most memory of all
OPEN_READS = {"/", "/favicon.ico", "/healthz", "/docs", "/openapi.json"}  # they say nothing of what was asked
STATUS = (
    (BusyError, 503), (ExistsError, 409), (UnknownNameError, 404), (OutputError, 500), (DataError, 422),
    (FewShotError, 422),
)  # fmt: skip
Photos = Annotated[list[UploadFile], File(description="photographs: files of images")]


def create_app(store: Store, token: str, limits: Limits, is_local: bool = True) -> FastAPI:
    """Make the application of a server.

    Args:
        store: the classifier.
        token: who has it may change classes.
        limits: what is taken at most.
        is_local: only this machine reaches the server; else whoever asks about photographs needs the token too.

    Returns:
        An ASGI application.
    """
    metrics = Metrics()

    def answer(pixels: Any) -> list[dict[str, Any]]:
        said = store.answer(pixels)
        metrics.note_batch([one["label"] for one in said])
        return said

    batcher = Batcher(answer, limits.batch, limits.waiting)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        app.state.batching = asyncio.create_task(batcher.run())
        yield
        app.state.batching.cancel()

    app = FastAPIOffline(
        title="fewshot", version=fewshot.__version__, lifespan=live, redoc_url=None,
        description="Ask a classifier about photographs, and teach it classes.",
    )  # fmt: skip

    def is_open(method: str, path: str) -> bool:
        if method in ("GET", "HEAD") and (path in OPEN_READS or path.startswith("/static-offline-docs/")):
            return True
        return is_local and (method, path) in {("POST", "/predict"), ("GET", "/classes"), ("GET", "/metrics")}

    app.add_middleware(Gate, limits=limits, token=token, is_open=is_open, metrics=metrics)
    if is_local:  # a page of another site cannot pretend to be this one
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES)
    app.add_exception_handler(FewShotError, _say)
    app.add_exception_handler(RequestValidationError, _say_what_is_missing)
    metrics.note_classes(len(store.predictor.classes))
    _add_routes(app, store, batcher, metrics, limits)
    return app


def _add_routes(app: FastAPI, store: Store, batcher: Batcher, metrics: Metrics, limits: Limits) -> None:
    page = write_server_page()
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem} for status in (401, 404, 408, 409, 413, 422, 503)
    }
    with_token = [Depends(HTTPBearer(auto_error=False))]  # `Gate` checks it, before the body is read
    decoding, changing = CapacityLimiter(N_DECODED_AT_ONCE), CapacityLimiter(1)

    async def decode(photos: list[UploadFile]) -> tuple[list[bytes], list[str]]:
        if len(photos) > limits.pictures:
            raise HTTPException(413, f"{len(photos)} photographs in one request: at most {limits.pictures}")
        names = [photo.filename or f"photograph {n + 1}" for n, photo in enumerate(photos)]
        return [await photo.read() for photo in photos], names

    async def in_time(work: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(limits.seconds):
                return await work()
        except TimeoutError:
            raise HTTPException(503, f"no answer within {limits.seconds:g} s: the server is busy") from None

    @app.post("/predict", response_model=Answers, responses=problems, dependencies=with_token)
    async def predict(photos: Photos) -> Any:
        """What one or many photographs show."""
        data, names = await decode(photos)

        async def work() -> list[dict[str, Any]]:
            return await batcher.ask(await to_thread.run_sync(store.read, data, names, limiter=decoding))

        said = await in_time(work)
        return {"answers": [Answer(photo=name, **one) for name, one in zip(names, said, strict=True)]}

    @app.get("/classes", response_model=Classes, responses=problems, dependencies=with_token)
    async def list_classes() -> Any:
        """The classes that are known."""
        predictor = store.predictor
        return {"classes": [str(name) for name in predictor.classes], "unknown": str(predictor.unknown)}

    @app.post("/classes/{name:path}", status_code=201, response_model=Classes, responses=problems,
              dependencies=with_token)  # fmt: skip
    async def add_class(
        request: Request, name: str, photos: Photos, groups: Annotated[list[str] | None, Form()] = None
    ) -> Any:
        """Learn a class; answered when it is stored. `groups`: equal words for photographs of one object."""
        data, names = await decode(photos)
        await to_thread.run_sync(store.add, _take_name(request), data, names, groups, limiter=changing)
        metrics.note_classes(len(store.predictor.classes))
        return await list_classes()

    @app.delete("/classes/{name:path}", response_model=Classes, responses=problems, dependencies=with_token)
    async def remove_class(request: Request, name: str) -> Any:
        """Forget a class; answered when that is stored."""
        await to_thread.run_sync(store.remove, _take_name(request), limiter=changing)
        metrics.note_classes(len(store.predictor.classes))
        return await list_classes()

    @app.get("/healthz", response_model=Health)
    async def tell_health(response: Response) -> Any:
        """Whether the server answers; status 503 where it does not."""
        well = not app.state.batching.done()
        response.status_code = 200 if well else 503
        n_classes = len(store.predictor.classes)
        return {"status": "ok" if well else "stopped", "classes": n_classes, "waiting": batcher.count_waiting()}

    @app.get("/metrics", dependencies=with_token)
    async def tell_metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.format(), media_type=metrics.content_type)

    @app.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page)


def _take_name(request: Request) -> str:
    """Take a class's name from the path: the route's own parameter lacks a newline at its end."""
    return str(request.scope["path"]).partition("/classes/")[2]


async def _say(_request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status, {"Retry-After": "2"} if status == 503 else None)


async def _say_what_is_missing(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)
