"""The door of the page: what may be asked, by whom, and how large it may be (plain ASGI).

Behind it stands a whole web framework with routes for files, uploads and proxies: none of them is
reached, since only the few paths named here are passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HERE = {"127.0.0.1", "localhost"}
"""Names of this machine: a page of elsewhere that has its own name lead here is refused."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Of every answer: nothing comes from elsewhere, and nothing is told there."""


class Door:
    """An ASGI application in front of another.

    paths: the method of each path that is passed on; all others are not there. most_bytes: of a
    request.
    """

    def __init__(self, app: App, paths: Mapping[str, str], most_bytes: int) -> None:
        self.app, self.paths, self.most_bytes = app, dict(paths), most_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass it on, or say what is wrong with it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _guarded(send)
        refused = self.refusal(scope["method"], scope["path"], _headers(scope))
        if refused is None:
            await self.app(scope, receive, answer)
        else:
            await _say(*refused, answer)

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """A status and a line for what is not passed on."""
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in HERE and host not in HERE:
            return 421, "this page answers to 127.0.0.1 and localhost only"
        if path not in self.paths:
            return 404, "there is no such page"
        if method != self.paths[path] and (method, self.paths[path]) != ("HEAD", "GET"):
            return 405, f"{path} is asked by {self.paths[path]}"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "another site may not ask this page for anything"
        if method == "POST":
            return self._refused_body(headers)
        return None

    def _refused_body(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "a request is JSON"
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:
            return 411, "a request says how long it is"
        if int(length) > self.most_bytes:
            return 413, f"a request has {self.most_bytes / 2**20:g} MB at most"
        return None


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _guarded(send: Send) -> Send:
    """With HEADERS on the answer."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [pair for pair in message.get("headers", []) if pair[0].decode() not in HEADERS]
            extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": own + extra}
        await send(message)

    return answer


async def _say(status: int, line: str, send: Send) -> None:
    body = line.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
