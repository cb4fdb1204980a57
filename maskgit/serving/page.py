"""The page itself: three files for the browser, and gradio's queue behind them.

Everything of gradio is in this file. Its own pages, uploads and files are shut off by the Door.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskgit.serving.door import Door
from maskgit.serving.studio import Studio

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "asking.js": "text/javascript",
    "controls.js": "text/javascript",
    "canvas.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
API = "/queue"
JOIN, DATA = f"{API}/gradio_api/queue/join", f"{API}/gradio_api/queue/data"
WAITING = 40
"""Requests that may wait; the next one is told to come back later."""
LEAVING_SECONDS = 2


def serve(studio: Studio, port: int) -> None:
    """Answer on 127.0.0.1 until a signal ends it; ValueError if gradio or the port is not there."""
    door = made(studio)
    with listening(port) as at:
        print(f"http://{HOST}:{at.getsockname()[1]}", flush=True)
        server(door).run(sockets=[at])


def check_gradio() -> None:
    """ValueError, with what to do, if gradio is not installed."""
    if find_spec("gradio") is None:
        raise ValueError("serve needs gradio: pip install 'maskgit-torch[serve]'")


def server(door: Door) -> uvicorn.Server:
    """What answers by HTTP."""
    import uvicorn

    config = uvicorn.Config(
        door,
        log_level="warning",
        timeout_graceful_shutdown=LEAVING_SECONDS,
        limit_concurrency=256,
        server_header=False,
        ws="none",
    )
    return uvicorn.Server(config)


def listening(port: int) -> socket.socket:
    """A socket of this machine alone; ValueError if the port is taken. 0: any that is free."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be had ({error}): --port names another") from error


def made(studio: Studio) -> Door:
    """The ASGI application; ValueError if gradio is not installed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    check_gradio()
    import fastapi
    import gradio

    app = fastapi.FastAPI(openapi_url=None)
    page = index(studio).encode()
    app.get("/")(lambda: fastapi.Response(page, media_type="text/html"))
    for name, kind in FILES.items():
        app.get(f"/{name}")(_sent(fastapi.Response, (PAGE / name).read_bytes(), kind))
    with gradio.Blocks(analytics_enabled=False) as blocks:
        for name, function in functions(studio).items():
            gradio.api(function, api_name=name, concurrency_limit=1, concurrency_id="model")
    blocks.queue(max_size=WAITING, default_concurrency_limit=1)
    gradio.mount_gradio_app(
        app, blocks, API, ssr_mode=False, run_history=False, show_error=False, pwa=False
    )
    paths = {"/": "GET", **{f"/{name}": "GET" for name in FILES}, JOIN: "POST", DATA: "GET"}
    return Door(app, paths, studio.limits.body_bytes)


def functions(studio: Studio) -> dict[str, Any]:
    """What the page may call, in this order: each takes a text in JSON, and gives such texts."""

    def draw(asked: str) -> Iterator[str]:
        yield from said(studio.draw(asked))

    def edit(asked: str) -> Iterator[str]:
        yield from said(studio.edit(asked))

    def file(asked: str, kind: str) -> Iterator[str]:
        yield from said(studio.file(kind, asked))

    def thumbs(asked: str) -> Iterator[str]:
        yield from said(studio.thumbs(asked))

    def opened(asked: str) -> Iterator[str]:
        yield from said(studio.open(asked))

    def said(events: Iterator[Any]) -> Iterator[str]:
        try:
            for event in events:
                yield json.dumps(event)
        except ValueError as error:
            from gradio import Error

            raise Error(str(error), print_exception=False) from None

    return {"draw": draw, "edit": edit, "file": file, "thumbs": thumbs, "open": opened}


def index(studio: Studio) -> str:
    """The page, with what it has to know of the pipeline inside."""
    about = {
        **studio.about(),
        "functions": list(functions(studio)),
        "join": JOIN,
        "data": DATA,
    }
    told = json.dumps(about).replace("<", "\\u003c")
    page = (PAGE / "index.html").read_text()
    return page.replace("{{run}}", escape(studio.run)).replace("{{about}}", told)


def _sent(response: Any, data: bytes, kind: str) -> Any:
    return lambda: response(data, media_type=kind)
