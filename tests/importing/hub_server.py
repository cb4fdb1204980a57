"""A small server on this machine that speaks the file protocol of the Hugging Face hub."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Repository:
    """Files by their paths; token: who may read it; gated: whether it asks for terms, or hides."""

    files: dict
    token: str | None = None
    gated: bool = False
    revisions: tuple = ("main", "v1", COMMIT)


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    repositories: dict
    url: str = ""
    breaks: int = 0
    """How many of the next downloads end half way."""
    broken: int = 0
    """The status of every answer, as of a hub that is down; 0: it works."""
    asked: list = field(default_factory=list)
    """(method, path, range, token) of each request."""


class Handler(BaseHTTPRequestHandler):
    """Resolves files (HEAD, GET, ranges) and tells what a repository holds."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Nothing to the terminal."""

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append((self.command, path, self.headers.get("Range"), token))
        if self.hub.broken:
            return self.refuse(self.hub.broken)
        asked_for = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(.*)", path)
        repository = asked_for and self.hub.repositories.get(asked_for[1])
        if not repository:
            return self.refuse(404, "RepoNotFound")
        if token == "expired":
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if repository.token not in (None, token):
            return self.refuse(401, "GatedRepo" if repository.gated else "RepoNotFound")
        if path.startswith("/api/models"):
            return self.tell(asked_for[1], repository, asked_for[2])
        _, _, revision, file = asked_for[2].split("/", 3)
        if revision not in repository.revisions:
            return self.refuse(404, "RevisionNotFound")
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound")
        return self.send(repository.files[file], body)

    def refuse(self, status, code=None, message=None):
        self.send_response(status)
        for key, value in (("X-Error-Code", code), ("X-Error-Message", message)):
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def tell(self, name, repository, rest):
        """What a repository holds."""
        revision = rest.removeprefix("/revision/") or "main"
        if revision not in repository.revisions:
            return self.refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": file} for file in repository.files]
        data = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def send(self, data, body):
        """A file, or the rest of it."""
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body and self.hub.breaks:
            self.hub.breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(data[start:])


@contextmanager
def serving(repositories):
    """A Hub on a free port of this machine."""
    hub = Hub(repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
