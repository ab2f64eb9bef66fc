"""The work of `fewshot serve`: checks address and token, then serves until it is stopped."""

import ipaddress
import os
import secrets
import socket
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from fewshot.config import ServeConfig
from fewshot.errors import ConfigError

PACKAGES = ("fastapi", "fastapi_offline", "uvicorn", "multipart", "prometheus_client", "onnxruntime")
TOKEN = "FEWSHOT_TOKEN"  # of the environment
SHORTEST_TOKEN = 16
MOST_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2048  # connections that wait to be accepted, as many as uvicorn lets


def serve(config: ServeConfig) -> None:
    """Serve the classifier in a folder."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve needs {', '.join(missing)}: pip install 'fewshot[serve]'")
    is_local = _is_loopback(config.host)
    given = _read_token(config.token_file)
    if given is None and not is_local:
        raise ConfigError(
            f"others reach {config.host}: name a file with a token (--token_file FILE, or {TOKEN} in the environment)"
        )
    _run(config, is_local, given)


def _run(config: ServeConfig, is_local: bool, given: str | None) -> None:
    import uvicorn

    from fewshot.photographs.serving.server import create_app
    from fewshot.photographs.serving.server_limits import Limits, TimedProtocol
    from fewshot.photographs.serving.server_store import Store

    Image.MAX_IMAGE_PIXELS = round(config.max_megapixels * 1e6)
    limits = Limits(config.max_mib, config.max_photos, config.max_waiting, config.max_batch, config.timeout_seconds)
    token = given or secrets.token_urlsafe(24)
    store = Store(config.model, watch=config.watch, coverage=config.coverage)
    app = create_app(store, token, limits, is_local)
    server = uvicorn.Server(uvicorn.Config(
        app, http=TimedProtocol, access_log=False, log_level="warning", server_header=False,
        limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=KEEP_ALIVE_SECONDS, ws="none",
    ))  # fmt: skip
    with _listen(config.host, config.port) as listening:
        place = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{config.port}/"
        print(f"{place}{'' if given else f'#token={token}'}   (API: {place}docs; Ctrl+C stops)", flush=True)
        with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
            server.run([listening])
    if not server.started:
        raise SystemExit(1)  # why was logged


def _listen(host: str, port: int) -> socket.socket:
    """Listen at an address; raises `ConfigError` where that is not possible, such as at a port that is in use."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise ConfigError(f"--host {host} is no address of this machine ({error.strerror})") from error
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"port {port} of {host} cannot be listened at ({why}): choose another with --port") from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(file: str | None) -> str | None:
    """Read the token, or None; raises `ConfigError` if it is easily guessed."""
    if file is not None:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"--token_file {file} cannot be read ({error})") from error
    else:
        token = os.environ.get(TOKEN, "").strip()
        if not token:
            return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"a token is {SHORTEST_TOKEN} or more ASCII characters without spaces: openssl rand -hex 24")
    return token
